"""What starting costs: which modules each command imports, and what it can do without."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from chiron.cli.application import load, names
from chiron.client.configuration import HOME_VARIABLE

HEAVY = (
    "PIL",
    "aiosqlite",
    "componentize_py",
    "cyclonedx",
    "elftools",
    "onnx",
    "onnxruntime",
    "prometheus_client",
    "pyarrow",
    "sklearn",
    "sqlalchemy",
    "wasmtime",
)
"""What only some commands need."""
CONNECTING = ("aiohttp", "cryptography", "numpy")
"""What commands need that do more than explain themselves."""
ONLY_LINUX = {"fcntl", "grp", "pty", "pwd", "resource", "spwd", "syslog", "termios"}

_RUN = """
import contextlib, io, json, sys
from chiron.cli.application import main
imported, watched = [], json.loads(sys.argv[2])
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    for arguments in json.loads(sys.argv[1]):
        before = set(sys.modules)
        main(arguments)
        imported.append([name for name in watched if name in set(sys.modules) - before])
print(json.dumps(imported))
"""


def imported(commands: list[list[str]], watched: tuple[str, ...], home: Path) -> list[list[str]]:
    """Which of the watched modules each command imports, one after the other in one process."""
    ran = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(commands), json.dumps(watched)],
        env={HOME_VARIABLE: str(home), "PATH": "/usr/bin:/bin", "CHIRON_URL": "http://127.0.0.1:1"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answer: list[list[str]] = json.loads(ran.stdout)
    return answer


def test_help_imports_nothing_that_explaining_does_not_need(tmp_path: Path) -> None:
    asked = [["--help"]]
    for name in names():
        inside = getattr(load(name), "commands", None)
        asked += [[name, command, "--help"] for command in inside] if inside else [[name, "--help"]]
    found = imported(asked, HEAVY + CONNECTING, tmp_path)
    needed = {" ".join(command): modules for command, modules in zip(asked, found, strict=True) if modules}
    # Only operators and auditors look into the log.
    assert needed in ({}, {"log create --help": ["cryptography"]})


def test_the_lists_of_commands_do_without_pydantic(tmp_path: Path) -> None:
    asked = [["--help"], ["job", "--help"], ["job", "list", "--help"]]
    assert imported(asked, ("pydantic",), tmp_path) == [[]] * len(asked)


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        (["data", "list"], set()),
        (["data", "encrypt", "rows.npz", "-o", "a.enc"], set()),
        (["data", "encrypt", "sklearn:iris", "-o", "b.enc"], {"sklearn"}),
        (["data", "encrypt", "rows.csv", "-o", "c.enc"], {"pyarrow"}),
        (["data", "encrypt", "images", "-o", "d.enc"], {"PIL"}),
        (["job", "list"], set()),
        (["job", "show", "1c0e"], set()),
        (["builder", "list"], set()),
        (["train", "x", "y", "-m", "a" * 64], set()),
        (["predict", "1c0e", "rows.npz"], set()),
        (["attest", "verify", "0" * 32, "-m", "a" * 64], set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_owners_command_imports_what_it_reads_with_and_nothing_else(
    command: list[str], allowed: set[str], tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "images").mkdir()
    # What scikit-learn imports is its own affair.
    watched = tuple(
        name for name in HEAVY if allowed != {"sklearn"} or name in ("sklearn", "sqlalchemy", "onnx")
    )
    (found,) = imported([command], watched, tmp_path)
    assert set(found) <= allowed


def test_the_lines_in_the_list_of_commands_are_the_commands_own() -> None:
    from chiron.cli.application import command

    listed = getattr(command(), "commands", {})
    assert list(listed) == names()
    for name, line in listed.items():
        assert (load(name).help or "").split("\n\n")[0].replace("\n", " ") == line.help


def test_the_clients_room_does_without_what_only_linux_has() -> None:
    """Of its own modules, and of every one of ours that they import."""
    program = (
        "import pkgutil, sys, importlib, chiron.client\n"
        "for module in pkgutil.walk_packages(chiron.client.__path__, 'chiron.client.'):\n"
        "    importlib.import_module(module.name)\n"
        "import chiron.cli.application\n"
        "ours = [m for name, m in sys.modules.items() if name.startswith('chiron')]\n"
        "print(*(module.__file__ for module in ours if module.__file__), sep='\\n')"
    )
    files = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    found = {path: names for path in files.split() if (names := _imports(Path(path)) & ONLY_LINUX)}
    assert len(files.split()) > 50
    assert found == {}


def _imports(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [
        ("pyarrow", ["data", "encrypt", "rows.csv", "-o", "out"], "tables"),
        ("PIL", ["data", "encrypt", "images", "-o", "out"], "images"),
        ("sklearn", ["data", "encrypt", "sklearn:iris", "-o", "out"], "demo"),
        ("sqlalchemy", ["keys", "create", "--tenant", "a", "--state-dir", "state"], "operator"),
        ("onnx", ["builder", "pack", "model.onnx"], "builder"),
    ],
    ids=["tables", "images", "demo", "operator", "builder"],
)
def test_a_missing_package_is_told_with_the_extra_that_brings_it(
    missing: str, command: list[str], extra: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "images").mkdir()
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from chiron.cli import main; sys.argv = ['chiron', *{command!r}]; sys.exit(main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={HOME_VARIABLE: str(tmp_path / "home"), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert "[extra-missing]" in ran.stderr
    assert f"chiron-ml[{extra}]" in " ".join(ran.stderr.split())
