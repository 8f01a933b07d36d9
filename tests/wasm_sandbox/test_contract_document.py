"""docs/builder-contract.md says what the WIT files and the code say: no more, no less."""

import re
import time
from pathlib import Path

import pytest

from chiron.wasm_sandbox import capabilities
from chiron.wasm_sandbox.errors import SENTENCES
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.process import Worker
from chiron.wasm_sandbox.world import PACKAGE, VERSION
from chiron.wire.contract import MAX_COMPONENT_BYTES, Capability, CapabilityGrants
from tests.corpus.components import ROOT, WIT

DOCUMENT = (ROOT / "docs" / "builder-contract.md").read_text()
FUNCTION = re.compile(r"^\s*(?:export )?([a-z0-9-]+: func\(.*\)[^;]*);", re.MULTILINE)


def wit(name: str) -> str:
    """A file without its comments."""
    return re.sub(r"///?.*", "", (WIT / f"{name}.wit").read_text())


def block(kind: str, name: str, text: str) -> str:
    """What stands between the braces of `kind name { … }`."""
    found = re.search(rf"\b{kind} {name} \{{(.*?)\n\s*\}}", text, re.DOTALL)
    assert found is not None, name
    return found[1]


def section(title: str) -> str:
    return DOCUMENT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of a table's rows, without its head."""
    lines = [line.strip().strip("|").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in cells] for cells in lines if cells[0].strip().startswith("`")]


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("capability", Capability)
def test_a_capabilitys_functions_are_those_of_its_interface(capability: Capability) -> None:
    told = {row[0].strip("`"): code(row[1]) for row in rows(section("Capabilities"))}
    assert set(told) == set(Capability)
    interface = re.search(
        rf"^interface {capability} \{{(.*?)^\}}", wit("capabilities"), re.DOTALL | re.MULTILINE
    )
    assert interface is not None
    assert told[capability] == FUNCTION.findall(interface[1])


def test_the_exports_are_those_of_the_world() -> None:
    exported = re.findall(
        r"export ([a-z]+: func\([^;]*);", block("world", "bare-builder-with-revision", wit("worlds"))
    )
    assert [text for text in code(section("A builder")) if ": func" in text] == exported
    assert f"`{PACKAGE}@{VERSION}`" in DOCUMENT


def test_the_requests_fields_are_those_of_the_record() -> None:
    fields = re.findall(r"([a-z-]+):", block("record", "build-request", wit("types")))
    assert [row[0].strip("`") for row in rows(section("What it is told"))] == fields


@pytest.mark.parametrize(("record", "title"), [("trial", "What it is told"), ("plan", "What it answers")])
def test_other_records_are_told_whole(record: str, title: str) -> None:
    fields = re.findall(r"([a-z-]+):", block("record", record, wit("types")))
    told = (
        section(title).split(f"`{record}`")[-1] if record == "plan" else section(title).split("\n`trial`")[1]
    )
    names = [text for text in code(told) if text in fields]
    assert names == fields


def test_every_code_is_told_with_its_sentence() -> None:
    assert {row[0].strip("`"): row[1] for row in rows(section("How a run ends"))} == {**SENTENCES}


def test_the_limits_are_the_defaults() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(section("Limits"))}
    defaults = SandboxLimits()
    assert told == {name: str(getattr(defaults, name)) for name in told}
    untold = set(SandboxLimits.model_fields) - set(told)
    assert untold == {"parallel_compilation", "log_lines", "log_bytes"}


def test_other_numbers_are_those_of_the_code() -> None:
    assert MAX_COMPONENT_BYTES == 64 * 2**20
    assert "at most 64 MiB" in section("A builder")
    assert f"{capabilities.CALL_FUEL:,} for each call" in DOCUMENT
    assert f"{capabilities.ELEMENT_FUEL} for each number or byte" in DOCUMENT
    most = CapabilityGrants.model_fields["sample_examples"].metadata
    assert any(getattr(bound, "le", None) == 1024 for bound in most)
    assert "at most 1024" in section("Capabilities")
    with Worker(10) as worker:
        deadline = time.monotonic() + 10
        while not (environment := Path(f"/proc/{worker.pid}/environ").read_bytes()):
            assert time.monotonic() < deadline  # empty until the new program is loaded
    assert environment.count(b"=") == len(environment.split(b"\0")) - 1 == 4
    assert "an environment of four variables" in DOCUMENT


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENT):
        assert (ROOT / "docs" / target).exists(), target
