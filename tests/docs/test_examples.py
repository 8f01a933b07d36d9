"""Examples in documents: Python compiles and names what there is, and the command line takes the commands."""

import ast
import importlib
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator

import pytest
import typer
import yaml
from typer.core import TyperGroup

import chiron
from chiron.cli.application import app
from tests.docs.documents import DOCUMENTS, ROOT, Passage, blocks, inline_code

SHELL = ("console", "sh", "")
COMMAND = re.compile(
    r"^\s*(?:\$ )?((?:chiron|(?:python )?(?:\./)?scripts/\w+(?:\.py)?) .*|(?:\./)?scripts/\w+(?:\.py)?)$"
)


def _commands() -> Iterator[Passage]:
    """Every command of ours, in blocks and in the text, without remarks and pipes."""
    for block in blocks(*SHELL):
        for number, line in enumerate(re.sub(r"\\\n\s*", "", block.text).splitlines()):
            if found := COMMAND.match(re.split(r" [#|>](?: |$)", line)[0]):
                yield Passage(block.document, block.line + number, found[1], "block")
    for document in DOCUMENTS:
        for code in inline_code(document):
            if COMMAND.match(code.text):
                yield code


PARSERS: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
}
COMMANDS = list(_commands())
PYTHON = list(blocks("python"))


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_imports_what_there_is(block: Passage) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "chiron":
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("block", [block for block in PYTHON if "Client" in block.text], ids=str)
def test_the_clients_verbs_take_these_arguments(block: Passage) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, verb = node.func.value, node.func.attr
            if isinstance(owner, ast.Name) and owner.id == "client":
                words = {word.arg: None for word in node.keywords if word.arg}
                verb_of_client: Callable[..., object] = getattr(chiron.Client, verb)
                inspect.signature(verb_of_client).bind(None, *node.args, **words)


def test_public_names_that_documents_speak_of_are_public() -> None:
    """`from chiron import …` in an example, and `chiron.Name` in the text."""
    spoken = {
        code.text.split(".")[1]
        for document in DOCUMENTS
        for code in inline_code(document)
        if re.fullmatch(r"chiron\.[A-Z]\w+", code.text)
    }
    assert spoken <= set(chiron.__all__)


@pytest.mark.parametrize("block", list(blocks(*PARSERS)), ids=str)
def test_data_parses(block: Passage) -> None:
    PARSERS[block.language](block.text)


def test_extras_that_documents_install_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for document in DOCUMENTS:
        for extras in re.findall(r"'\.\[([a-z,]+)\]'", (ROOT / document).read_text()):
            assert set(extras.split(",")) <= project["optional-dependencies"].keys(), f"{document}: {extras}"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.text.startswith("chiron ")], ids=str)
def test_the_command_line_takes_what_documents_show(command: Passage) -> None:
    words = shlex.split(command.text)[1:]
    _parse(words, whole=command.language == "block")


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.text.startswith("chiron ")], ids=str)
def test_scripts_know_the_options_that_documents_show(command: Passage) -> None:
    words = shlex.split(command.text.removeprefix("python "))
    script = ROOT / words[0]
    text = script.read_text() + "".join(
        other.read_text() for other in script.parent.glob(f"{script.name}.py")
    )
    for option in words[1:]:
        if option.startswith("--") and "pytest" not in text:  # what scripts/test does not know goes to pytest
            assert option.split("=")[0] in text, f"{command}: {option}"


def _parse(words: list[str], whole: bool) -> None:
    """Have the real command's parser read it; nothing runs, and no value is looked at.

    An example that is not whole (in the middle of a sentence) may leave arguments out.
    """
    if words[-1:] == ["--help"]:  # every command has it, and it asks for no argument
        words, whole = words[:-1], False
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="chiron")
    while isinstance(command, TyperGroup):
        if not words and not whole:
            return
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        context = command.context_class(command, parent=context, info_name=command.name)
    if not whole and words[-1:] and words[-1].startswith("--"):
        words = [*words, "…"]  # it may want a value
    values, rest, _ = command.make_parser(context).parse_args(words)
    assert [word for word in rest if word != "…"] == [], f"too many arguments: {rest}"
    given = {name for name, value in values.items() if value not in (None, ())}
    missing = [
        parameter.name for parameter in command.params if parameter.required and parameter.name not in given
    ]
    assert not (whole and missing), f"missing: {missing}"
