"""Every hostile model of the corpus is refused with its own code, in bounded time and memory."""

import resource
import time

import pytest

from chiron.wasm_sandbox.admission import SENTENCES, GraphCode, admit
from chiron.wasm_sandbox.errors import GraphRefused
from tests.corpus.onnx.cases import ENVELOPE, REQUEST, Case, all_cases, good, serialised

CASES = list(all_cases())
_SECONDS = 10.0
_MEMORY_MIB = 400


def test_the_model_that_the_corpus_changes_is_admitted() -> None:
    admitted = admit(serialised(good()), REQUEST, ENVELOPE)
    assert [(p.name, p.shape, p.trainable) for p in admitted.parameters] == [("weight", (4, 3), True)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_hostile_model_is_refused(case: Case) -> None:
    data = case.make()
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(GraphRefused) as refusal:
        admit(data, REQUEST, ENVELOPE)
    spent, grown = time.process_time() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert refusal.value.code == case.expected, refusal.value.detail
    # A refusal's sentence repeats nothing that the graph says of itself.
    assert str(refusal.value) == SENTENCES[GraphCode(refusal.value.code)]
    assert len(refusal.value.detail) <= 300
    assert spent < _SECONDS
    assert grown < _MEMORY_MIB * 1024


def test_names_are_distinct_and_every_refusal_has_a_case() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 60
    # Assets and strict jobs have tests of their own: no model alone is wrong about them.
    elsewhere = {GraphCode.ASSET_UNKNOWN, GraphCode.ASSET_INVALID, GraphCode.ADDRESSES_DEPEND_ON_DATA}
    reached = {case.expected for case in CASES} | elsewhere
    assert reached == set(GraphCode)
    assert SENTENCES.keys() == set(GraphCode)
