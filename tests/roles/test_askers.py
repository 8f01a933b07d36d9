"""Who may ask an opened predictor: passes only narrow, and no count is ever exceeded."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from chiron.runtime.errors import QueryReplayed
from chiron.runtime.queries import AnswerOutcome, answered
from chiron.runtime.roles.askers import Askers, narrowed
from chiron.runtime.roles.taken_queries import TakenQueries
from chiron.wire.grants import PredictionPolicy
from chiron.wire.opening import OWNER, Opening, Pass, PassLease, Statement
from tests.support.specs import JOB, OTHER_JOB, job_spec

END = 1000


def a_pass(number: int = 1, **changes: Any) -> Pass:
    usual = {"id": f"{number:032x}", "job": JOB, "holder": bytes([number]) * 32, "rows": 10, "until": END}
    return Pass.model_validate(usual | changes)


def an_opening(*leases: PassLease, rows: int | None = None, **changes: Any) -> Opening:
    usual = {
        "job": JOB,
        "predictor_key_sha256": "0" * 64,
        "number": 1,
        "share": bytes(32),
        "rows": rows,
        "passes": leases,
        "issued_at": 1,
        "until": END * 2,
    }
    return Opening.model_validate(usual | changes)


def lend(number: int = 1, rows: int = 10, **changes: Any) -> PassLease:
    return PassLease(allowed=a_pass(number, **changes), rows=rows)


def askers(opening: Opening, **granted: Any) -> Askers:
    return Askers(opening, bytes(32), PredictionPolicy(**granted))


def spend(of: Askers, asker: str, rows: int, now: int = 1) -> Statement | AnswerOutcome:
    found = of.find(asker)
    assert found is not None
    return of.spend(found, rows, now)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_a_pass_narrows_what_the_grant_lets_through_and_never_widens_it(
    granted_k: int, granted_decimals: int, pass_k: int, pass_decimals: int
) -> None:
    granted = PredictionPolicy(top_k=granted_k, decimals=granted_decimals, query_budget=7)
    policy = narrowed(granted, a_pass(top_k=pass_k, decimals=pass_decimals))
    spec, scores = job_spec(), np.linspace(0, 1, 5, dtype=np.float32)[None]
    told, mine = (answered(spec, bytes(16), scores, each) for each in (policy, granted))
    assert told.scores.shape[1] == min(mine.scores.shape[1], pass_k or 5)
    assert policy.decimals == min(granted_decimals, pass_decimals)
    assert policy.query_budget == granted.query_budget


def test_a_pass_holds_to_its_lease_its_rows_and_its_end() -> None:
    of = askers(an_opening(lend(1, rows=3), lend(2, rows=100)))
    one, two = a_pass(1).id, a_pass(2).id
    assert spend(of, one, 4) is AnswerOutcome.PASS_EXHAUSTED
    assert isinstance(spend(of, one, 3), Statement)
    assert spend(of, one, 1) is AnswerOutcome.PASS_EXHAUSTED
    assert spend(of, two, 11) is AnswerOutcome.PASS_EXHAUSTED
    assert isinstance(spend(of, two, 5, now=END - 1), Statement)
    assert spend(of, two, 1, now=END) is AnswerOutcome.PASS_EXPIRED
    assert isinstance(spend(of, OWNER, 1000, now=END), Statement)
    assert of.find("f" * 32) is None


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.integers(1, 8)), max_size=30))
def test_all_together_hold_to_the_grants_budget_and_are_settled_exactly(asked: list[tuple[int, int]]) -> None:
    of = askers(an_opening(lend(1, rows=9), lend(2, rows=9), rows=12), query_budget=15)
    names, rows = [OWNER, a_pass(1).id, a_pass(2).id], [0, 0, 0]
    for who, count in asked:
        said = spend(of, names[who], count)
        fits = rows[who] + count <= (12, 9, 9)[who] and sum(rows) + count <= 15
        assert isinstance(said, Statement) == fits
        if isinstance(said, Statement):
            rows[who] += count
            assert (said.rows, said.pass_rows) == (sum(rows), rows[who] if who else None)
    settled = of.settlement()
    assert [settled.rows, *(one.rows for one in settled.passes)] == rows


def test_an_opening_names_each_pass_once_and_passes_of_its_job_only() -> None:
    for leases in (
        (lend(1), lend(1, holder=b"\7" * 32)),
        (lend(id=OWNER),),
        (lend(1), lend(2, job=OTHER_JOB)),
    ):
        with pytest.raises(ValidationError):
            an_opening(*leases)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=60))
def test_no_query_is_taken_twice_however_many_were_and_in_whatever_order(numbers: list[int]) -> None:
    queries, taken = TakenQueries(remembered=4), set()
    for number in numbers:
        name = number.to_bytes(16, "big")
        try:
            queries.take(OWNER, name)
        except QueryReplayed:
            continue
        assert name not in taken
        taken.add(name)


def test_ascending_queries_are_all_taken_and_of_one_asker_no_more_is_remembered_than_there_is_room() -> None:
    queries = TakenQueries(remembered=8)
    for number in range(100):
        queries.take(OWNER, number.to_bytes(16, "big"))
    queries.take("1" * 32, (5).to_bytes(16, "big"))
    assert len(queries) == 8 + 1
    for number in (0, 50, 91, 99):
        with pytest.raises(QueryReplayed):
            queries.take(OWNER, number.to_bytes(16, "big"))


def test_attack_queries_of_one_whom_no_opening_names_any_more_are_not_taken_again_when_one_does() -> None:
    queries, holder = TakenQueries(), "1" * 32
    for number in (5, 9, 7):
        queries.take(holder, number.to_bytes(16, "big"))
    for askers in ([OWNER], [OWNER, holder], [OWNER], [OWNER, holder]):
        queries.keep(askers)
        for number in (5, 6, 7, 9):
            with pytest.raises(QueryReplayed):
                queries.take(holder, number.to_bytes(16, "big"))
    queries.take(holder, (10).to_bytes(16, "big"))


def test_attack_an_owner_names_new_holders_in_every_opening_to_fill_the_enclaves_memory() -> None:
    queries = TakenQueries(former=10)
    for opening in range(30):
        holders = [f"{opening:016x}{number:016x}" for number in range(5)]
        queries.keep(holders)
        for holder in holders:
            for number in range(4):
                queries.take(holder, number.to_bytes(16, "big"))
        assert len(queries) <= 5 * 4 + 10
