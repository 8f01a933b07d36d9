"""The tree is RFC 6962's and 9162's: known answers, every small proof, and no forged one."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiron.enclave_image.transparency_log import consistency_path, inclusion_path, root
from chiron.runtime.transparency import consistency_holds, inclusion_holds, leaf_hash

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "rfc6962.json").read_text())
LEAVES = [leaf_hash(bytes.fromhex(leaf)) for leaf in VECTORS["leaves"]]
MANY = [leaf_hash(bytes([number])) for number in range(33)]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_the_known_ones(size: int) -> None:
    assert root(LEAVES[:size]).hex() == VECTORS["roots"][size - 1]


@pytest.mark.parametrize("vector", VECTORS["inclusion"])
def test_inclusion_paths_are_the_known_ones(vector: dict[str, Any]) -> None:
    leaves = LEAVES[: vector["size"]]
    path = inclusion_path(leaves, vector["index"])
    assert [step.hex() for step in path] == vector["path"]
    assert inclusion_holds(leaves[vector["index"]], vector["index"], vector["size"], path, root(leaves))


@pytest.mark.parametrize("vector", VECTORS["consistency"])
def test_consistency_paths_are_the_known_ones(vector: dict[str, Any]) -> None:
    first, second = LEAVES[: vector["first"]], LEAVES[: vector["second"]]
    path = consistency_path(second, len(first))
    assert [step.hex() for step in path] == vector["path"]
    assert consistency_holds(len(first), root(first), len(second), root(second), path)


def test_every_proof_of_every_small_tree_holds_for_its_place_only() -> None:
    for size in range(1, len(MANY) + 1):
        leaves = MANY[:size]
        top = root(leaves)
        for index in range(size):
            path = inclusion_path(leaves, index)
            assert inclusion_holds(leaves[index], index, size, path, top)
            assert not inclusion_holds(leaves[index], (index + 1) % size, size, path, top) or size == 1
            assert not inclusion_holds(MANY[(index + 1) % 33], index, size, path, top)


def test_every_pair_of_small_trees_is_consistent_and_no_other_root_is() -> None:
    roots = [root(MANY[:size]) for size in range(1, len(MANY) + 1)]
    for second in range(1, len(MANY) + 1):
        for first in range(1, second + 1):
            path = consistency_path(MANY[:second], first)
            assert consistency_holds(first, roots[first - 1], second, roots[second - 1], path)
            if first < second:
                assert not consistency_holds(first, roots[second - 1], second, roots[second - 1], path)
                assert not consistency_holds(first, roots[first - 1], second, roots[first - 1], path)


def test_rewritten_entry_is_inconsistent_with_every_earlier_head() -> None:
    changed = [leaf_hash(b"rewritten"), *MANY[1:]]
    for first in range(1, 33):
        path = consistency_path(changed, first)
        assert not consistency_holds(first, root(MANY[:first]), 33, root(changed), path)


def test_node_does_not_pass_for_a_leaf() -> None:
    """The second-preimage attack that the prefixes are against."""
    inner = root(MANY[:2])
    forged = leaf_hash(MANY[0] + MANY[1])
    assert inner != forged
    assert not inclusion_holds(forged, 0, 2, [root(MANY[2:4])], root(MANY[:4]))


@given(
    size=st.integers(1, 33),
    index=st.integers(-3, 40),
    path=st.lists(st.binary(min_size=32, max_size=32), max_size=8),
)
def test_invented_inclusion_is_never_accepted(size: int, index: int, path: list[bytes]) -> None:
    top = root(MANY[:size])
    assert not inclusion_holds(leaf_hash(b"never"), index, size, path, top)


@given(data=st.data(), size=st.integers(2, 33))
def test_altered_proof_does_not_hold(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    path = inclusion_path(MANY[:size], index)
    place = data.draw(st.integers(0, len(path) - 1))
    altered = [bytes(32) if number == place else step for number, step in enumerate(path)]
    top = root(MANY[:size])
    for forged in (altered, path[:-1], [*path, bytes(32)], path[1:]):
        assert not inclusion_holds(MANY[index], index, size, forged, top)
    first = data.draw(st.integers(1, size - 1))
    proof = consistency_path(MANY[:size], first)
    for forged in (proof[:-1], [*proof, bytes(32)], [*proof[:-1], bytes(32)]):
        assert not consistency_holds(first, root(MANY[:first]), size, top, forged)


def test_sizes_that_make_no_sense_do_not_hold() -> None:
    top = root(MANY[:4])
    assert not consistency_holds(0, top, 4, top, [])
    assert not consistency_holds(5, root(MANY[:5]), 4, top, [])
    assert not consistency_holds(4, top, 4, root(MANY[:5]), [])
    assert not consistency_holds(4, top, 4, top, [bytes(32)])
    assert not inclusion_holds(MANY[0], 0, 0, [], MANY[0])


def test_roots_of_growing_trees_all_differ() -> None:
    assert all(a != b for a, b in pairwise(root(MANY[:size]) for size in range(1, 34)))
