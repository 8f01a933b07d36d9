"""The examples of README and docs/data-owner.md are run as they stand, against a real gateway."""

import asyncio
import doctest
from pathlib import Path

import numpy as np
import pytest

import chiron
from tests.docs.documents import Passage, blocks
from tests.support.owners_world import World
from tests.support.tee import MEASUREMENT

EXAMPLES = [block for block in blocks("python") if "with Client(" in block.text]
ACCEPTED = 'policy_of(["4f0c…"])'


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
async def test_the_example_trains_and_predicts(
    example: Passage, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = world.directory / "root.pem"
    root.write_bytes(world.tee.root_pem)
    monkeypatch.setenv("CHIRON_URL", world.running.url)
    monkeypatch.setenv("CHIRON_API_KEY", world.owner_key)
    monkeypatch.setenv("CHIRON_HOME", str(world.directory / "home"))
    monkeypatch.chdir(world.directory)
    assert ACCEPTED in example.text
    here = f"policy_of([{MEASUREMENT.hex()!r}], software_root=Path({str(root)!r}))"
    program = compile(example.text.replace(ACCEPTED, here), str(example), "exec")
    names = {"Path": Path, "rows": np.zeros((3, 1, 8, 8), dtype=np.float32)}
    await asyncio.to_thread(exec, program, names)
    labels = capsys.readouterr().out.splitlines()[-1]
    assert len(labels.split()) == 3, labels


def test_the_packages_own_example_runs() -> None:
    assert doctest.testmod(chiron).failed == 0


def test_both_documents_have_such_an_example() -> None:
    assert {str(example.document) for example in EXAMPLES} == {"README.md", "docs/data-owner.md"}
