"""What predictors sign at the end of an opening, taken into the owner's ledger, history and passes."""

from contextlib import suppress

from chiron.client.attested import AttestedBook
from chiron.client.errors import GatewayError
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, note
from chiron.client.ledger import Ledger, Ledgers
from chiron.client.passes import PassBook
from chiron.client.store import JobRecord, OwnerStore
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import open_settlement
from chiron.wire import paths
from chiron.wire.objects import settlement
from chiron.wire.opening import Opening, SignedSettlement


async def settle_stored(gateway: GatewaySession, store: OwnerStore, record: JobRecord, now: int) -> None:
    """Take what the job's last predictor left in storage; what is not signed is ignored.

    Raises:
        GatewayError: the gateway cannot be asked.
    """
    stored = settlement()
    try:
        sealed = await gateway.fetch(
            paths.JOB_OBJECT.of(record.spec.job, stored.name), limit=stored.stored_bytes
        )
    except GatewayError as error:
        if error.status == 404:
            return
        raise
    with suppress(StatementInvalid):
        settle(store, record, sealed, now)


def settle(
    store: OwnerStore, record: JobRecord, sealed: bytes, now: int, answers: Opening | None = None
) -> None:
    """Take a settlement into the ledger: one that `answers` an opening, or a predictor's last word.

    Raises:
        StatementInvalid: it is not sealed to us, or not signed by the predictor that was lent to.
    """
    job = record.spec.job
    signed = open_settlement(sealed, record.share, job, answers)
    with Ledgers(store).changing(job) as change:
        before = change.ledger
        if signed is not None:
            change.ledger = before.settled(signed, answers.number if answers is not None else None)
            # Before the ledger is written: a crash in between repeats what is noted, and loses nothing.
            _write_down(store, signed, before, now)
        elif answers is not None:
            # It had taken no other before this one.
            change.ledger = before.superseded(answers.predictor_key_sha256, 0, answers.number)


def _write_down(store: OwnerStore, signed: SignedSettlement, before: Ledger, now: int) -> None:
    """Keep a settlement that the ledger has not heard before, and say so in the history."""
    said = signed.settlement
    loan = before.loan(said.opening)
    if loan is None and not before.forgot(said.opening):
        return
    known = loan or before.loan_to(said.predictor_key_sha256)
    if known is not None:
        AttestedBook(store).keep(signed, known.tls_key_sha256)
    passes = sum(one.rows for one in said.passes)
    deed = Deed.SETTLED if loan is not None else Deed.CAUGHT_UP
    note(store, said.job, deed, opening=said.opening, rows=said.rows, pass_rows=passes)
    if loan is None:
        PassBook(store).keep_only(said, now)
