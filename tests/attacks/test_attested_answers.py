"""Attacks on what a predictor attests: counts that go back, and records that somebody edits."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.client.attested import AttestedBook, check_follows
from chiron.client.store import OwnerStore
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import sign_settlement, sign_statement
from chiron.wire.encoding import sha256_hex
from chiron.wire.opening import Settlement, SignedStatement, Statement

JOB, PREDICTOR = "ab" * 16, "1" * 64
KEY = ec.generate_private_key(ec.SECP256R1())


def said(queries: int, rows: int, opening: int = 7, key: ec.EllipticCurvePrivateKey = KEY) -> SignedStatement:
    statement = Statement(
        job=JOB, predictor_key_sha256=PREDICTOR, opening=opening, queries=queries, rows=rows
    )
    return sign_statement(statement, key)


TLS = sha256_hex(said(1, 1).key)


@pytest.mark.parametrize(
    ("queries", "rows", "opening"),
    [(3, 30, 7), (2, 40, 7), (4, 29, 7), (4, 39, 7), (9, 90, 6), (1, 9, 8)],
    ids=[
        "a replay",
        "fewer queries",
        "fewer rows",
        "rows left out",
        "an earlier opening",
        "rows left out anew",
    ],
)
def test_counts_that_go_back_or_leave_out_our_rows_are_refused(queries: int, rows: int, opening: int) -> None:
    with pytest.raises(StatementInvalid):
        check_follows(said(queries, rows, opening), said(3, 30), 10)


def test_more_than_ours_may_be_answered_in_between() -> None:
    check_follows(said(4, 40), said(3, 30), 10)
    check_follows(said(9, 500), said(3, 30), 10)
    check_follows(said(1, 10, opening=8), said(3, 30), 10)


def test_the_last_statement_of_each_opening_is_kept_with_its_settlement(tmp_path: Path) -> None:
    book = AttestedBook(OwnerStore(tmp_path))
    for signed in (said(2, 20), said(1, 10), said(1, 5, opening=8)):
        book.keep(signed, TLS)
    settled = Settlement(job=JOB, predictor_key_sha256=PREDICTOR, opening=7, queries=2, rows=20)
    book.keep(sign_settlement(settled, KEY), TLS)
    first, second = book.read(JOB)
    assert first.statement == said_again(first.statement, 2, 20)
    assert first.settlement is not None
    assert first.settlement.settlement == settled
    assert (second.opening, second.settlement) == (8, None)
    assert book.last(JOB, PREDICTOR) == second.statement


def said_again(kept: SignedStatement | None, queries: int, rows: int) -> SignedStatement | None:
    """What was kept, if it says this: signatures differ each time."""
    assert kept is not None
    return kept if (kept.statement.queries, kept.statement.rows) == (queries, rows) else None


def test_another_key_attests_nothing(tmp_path: Path) -> None:
    book = AttestedBook(OwnerStore(tmp_path))
    with pytest.raises(StatementInvalid):
        book.keep(said(1, 1, key=ec.generate_private_key(ec.SECP256R1())), TLS)
    assert book.read(JOB) == ()


def test_an_edited_record_is_noticed(tmp_path: Path) -> None:
    book = AttestedBook(OwnerStore(tmp_path))
    book.keep(said(2, 20), TLS)
    path = tmp_path / "attested" / f"{JOB}.json"
    path.write_text(path.read_text().replace('"rows": 20', '"rows": 2'))
    with pytest.raises(StatementInvalid):
        book.read(JOB)
