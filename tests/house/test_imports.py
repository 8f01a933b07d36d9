"""No import circle anywhere: of any two modules, at most one needs the other."""

from graphlib import CycleError, TopologicalSorter

import grimp


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("chiron", exclude_type_checking_imports=True, cache_dir=None)
    assert {"chiron.ps.server", "chiron.ps.routes", "chiron.cli"} <= graph.modules
    needs = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None
