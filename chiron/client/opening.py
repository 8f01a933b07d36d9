"""From a verified, locked predictor to an open one.

1. Its evidence over a fresh nonce is verified: whoever is told the share is what the policy accepts.
2. What earlier predictors left in storage is settled, where they signed it.
3. The next number, and what is lent, are written into the ledger.
4. The opening is signed, sealed to the key in that evidence, and sent.
5. Evidence over another nonce must now name us as the model's owner.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import SystemRandom

from chiron.client.errors import EvidenceRejected, GatewayError, GatewayMisbehaved
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, note
from chiron.client.ledger import Ledger, Ledgers, Loan
from chiron.client.passes import PassBook
from chiron.client.settling import settle, settle_stored
from chiron.client.store import JobRecord, OwnerStore
from chiron.client.verifying import Verifier
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.runtime.errors import StatementInvalid
from chiron.runtime.openings import seal_opening
from chiron.wire import codes, paths
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import SealedMessage
from chiron.wire.encoding import sha256_hex
from chiron.wire.opening import MAX_PASSES, MOST_ROWS, Opening, Pass, PassLease

_JITTER = SystemRandom()
OPEN_FOR = timedelta(hours=24)
WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""How long, at most, to wait before each next try, where processes of one owner open a predictor at once."""
OPENINGS_IN_A_ROW = 3
"""Where rows are lent under passes, one opening settles them, and the next lends them anew. The third is for
what other processes of ours do meanwhile."""
RENEWED_BEFORE_S = 300
"""A predictor whose end is nearer than this is opened anew before it is asked."""

_NOT_THE_MODEL = (
    "what the operator stores as this model does not open with your share: it was altered, or lost, or its "
    "processor was. Have the operator restore it and try again after 10 seconds: the predictor reads it anew"
)


@dataclass(frozen=True)
class Opened:
    """One opening that was taken."""

    job: str
    measurement: str
    predictor_key_sha256: str
    number: int
    rows: int | None
    """Rows that it may answer its owner; None is any number."""
    passes: int
    """How many passes it was told of."""
    until: datetime

    @property
    def facts(self) -> dict[str, str | int]:
        """What a history says of it; where any number of rows may be answered, it names none."""
        rows = {} if self.rows is None else {"rows": self.rows}
        return {
            "measurement": self.measurement,
            "predictor": self.predictor_key_sha256,
            "number": self.number,
            "passes": self.passes,
            "until": int(self.until.timestamp()),
            **rows,
        }


class Opener:
    """Opens predictors of one owner's jobs."""

    def __init__(
        self,
        gateway: GatewaySession,
        verifier: Verifier,
        store: OwnerStore,
        clock: Callable[[], datetime],
        on_opened: Callable[[Opened], None] | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_opened` is called with every opening that was taken.

        `before` is called before each is made, and may raise: then nothing is lent or sent.
        """
        self._gateway = gateway
        self._verifier = verifier
        self._store = store
        self._ledgers = Ledgers(store)
        self._passes = PassBook(store)
        self._clock = clock
        self._on_opened = on_opened or (lambda _: None)
        self._before = before

    async def opened(
        self, session: GatewaySession, record: JobRecord, *, giver: bool = False
    ) -> VerifiedEvidence:
        """Verify the predictor that `session` reaches, and open it unless it is open; its evidence then.

        With `giver`, it is the one that is to give its model to newer code.

        Raises:
            PolicyMissing: nothing says which enclaves are acceptable.
            EvidenceRejected: a step did not hold, or the predictor serves another owner's model.
            GatewayError: it took no opening of ours; its code says why.
        """
        verified = await self._verifier.verified(session, record.spec.job, Role.PREDICTOR, giver=giver)
        if verified.claims.owner_key_sha256 is not None and not self._due(record, verified):
            return verified
        await self._settle_stored(record, verified)
        for _ in range(OPENINGS_IN_A_ROW):
            verified = await self._opened_newer(session, record, verified, giver=giver)
            if not self._due(record, verified):
                break
        return verified

    async def _opened_newer(
        self, session: GatewaySession, record: JobRecord, verified: VerifiedEvidence, *, giver: bool
    ) -> VerifiedEvidence:
        """Open it; and again, with a newer number, where another process of ours was faster."""
        for wait_s in WAITS_S:
            try:
                return await self._open(session, record, verified, giver=giver)
            except GatewayError as error:
                if error.code != codes.OPENING_NOT_NEWER:
                    raise
            await asyncio.sleep(_JITTER.uniform(0, wait_s))
        return await self._open(session, record, verified, giver=giver)

    async def _open(
        self, session: GatewaySession, record: JobRecord, verified: VerifiedEvidence, *, giver: bool
    ) -> VerifiedEvidence:
        job = record.spec.job
        self._before()
        opening = self._lend(record, verified)
        await self._send(session, record, verified, opening, giver=giver)
        again = await self._verifier.verified(session, job, Role.PREDICTOR, giver=giver)
        if again.claims.owner_key_sha256 is None:
            raise EvidenceRejected(
                "the predictor took the opening and is locked still",
                code="predictor-locked",
                steps=again.steps,
            )
        if again.claims.hpke_public_key != verified.claims.hpke_public_key:
            raise GatewayMisbehaved("another predictor answers than the one that was opened")
        done = _summary(opening, again)
        evidence = sha256_hex(again.claims.report_data())
        note(self._store, job, Deed.OPENED, **done.facts, evidence=evidence)
        self._on_opened(done)
        return again

    async def _settle_stored(self, record: JobRecord, verified: VerifiedEvidence) -> None:
        """What is not settled stays spent: to be opened, a predictor needs no gateway."""
        key = _key_sha256(verified)
        loans = self._ledgers.read(record.spec.job).loans
        if any(loan.predictor_key_sha256 != key for loan in loans):
            with suppress(GatewayError):
                await settle_stored(self._gateway, self._store, record, self._seconds())

    def _due(self, record: JobRecord, verified: VerifiedEvidence) -> bool:
        """Whether a predictor that is open should be opened anew."""
        ledger = self._ledgers.read(record.spec.job)
        loan = ledger.loan_to(_key_sha256(verified))
        if loan is None or not loan.taken or loan.until - self._seconds() < RENEWED_BEFORE_S:
            return True
        if _lendable(self._holding(record.spec.job), ledger, loan) != loan.passes:
            return True
        # Others may have given back what they did not use.
        return ledger.left is not None and loan.rows is not None and loan.rows - loan.asked < ledger.left

    def _lend(self, record: JobRecord, verified: VerifiedEvidence) -> Opening:
        job, now = record.spec.job, self._seconds()
        with self._ledgers.changing(job) as change:
            passes = _leases(self._holding(job), change.ledger)
            if change.ledger.owes(_key_sha256(verified)):
                # Its answer says how much of that was used. Then, and not before, all can be lent anew.
                passes = tuple(lease.model_copy(update={"rows": 0}) for lease in passes)
            lent = {lease.allowed.id: lease.rows for lease in passes}
            left = change.ledger.left
            loan = Loan(
                # A time: numbers ascend even if the ledger was set back, and are none that it forgot.
                number=max(change.ledger.number + 1, int(self._clock().timestamp() * 1000)),
                predictor_key_sha256=_key_sha256(verified),
                tls_key_sha256=verified.claims.tls_public_key_sha256 or "",
                rows=None if left is None else max(0, left - sum(lent.values())),
                passes=lent,
                until=now + int(OPEN_FOR.total_seconds()),
            )
            spent = change.ledger.spent
            change.ledger = change.ledger.lent(loan)
        return Opening(
            job=job,
            predictor_key_sha256=loan.predictor_key_sha256,
            number=loan.number,
            share=record.share,
            rows=loan.rows,
            spent=min(spent, MOST_ROWS),
            passes=passes,
            issued_at=now,
            until=loan.until,
        )

    async def _send(
        self,
        session: GatewaySession,
        record: JobRecord,
        verified: VerifiedEvidence,
        opening: Opening,
        *,
        giver: bool,
    ) -> None:
        path = paths.JOB_UPGRADE_OPENING if giver else paths.JOB_OPENING
        sealed = seal_opening(opening, record.signing_key, verified.claims.hpke_public_key or b"")
        try:
            body = await session.relay(path.of(opening.job), sealed)
        except GatewayError as error:
            if error.code == codes.OPENING_SHARE_WRONG:
                raise GatewayError(error.code, error.status, _NOT_THE_MODEL) from error
            raise
        try:
            answer = SealedMessage.model_validate_json(body).sealed
            settle(self._store, record, answer, self._seconds(), answers=opening)
        except (ValueError, StatementInvalid) as error:
            raise GatewayMisbehaved("the answer to an opening does not say that it was taken") from error
        with self._ledgers.changing(opening.job) as change:
            change.ledger = change.ledger.taken(opening.number)

    def _holding(self, job: str) -> tuple[Pass, ...]:
        return self._passes.read(job).holding(self._seconds())

    def _seconds(self) -> int:
        return int(self._clock().timestamp())


def _leases(holding: tuple[Pass, ...], ledger: Ledger) -> tuple[PassLease, ...]:
    """Who else may ask: of each pass all that is left of it, as far as the budget holds that much."""
    left, leases = ledger.left, []
    for allowed in holding[:MAX_PASSES]:
        rows = max(0, allowed.rows - ledger.pass_spent(allowed.id))
        if left is not None:
            rows = min(rows, left)
            left -= rows
        spent = min(ledger.pass_spent(allowed.id), MOST_ROWS)
        leases.append(PassLease(allowed=allowed, rows=rows, spent=spent))
    return tuple(leases)


def _lendable(holding: tuple[Pass, ...], ledger: Ledger, loan: Loan) -> dict[str, int]:
    """What could be lent under passes now, if it had not been lent already by this loan."""
    others = tuple(other for other in ledger.loans if other is not loan)
    without = ledger.model_copy(update={"loans": others, "asked": ledger.asked + loan.asked})
    return {
        lease.allowed.id: max(lease.rows, loan.passes.get(lease.allowed.id, 0))
        for lease in _leases(holding, without)
    }


def _key_sha256(verified: VerifiedEvidence) -> str:
    return sha256_hex(verified.claims.hpke_public_key or b"")


def _summary(opening: Opening, verified: VerifiedEvidence) -> Opened:
    return Opened(
        job=opening.job,
        measurement=verified.quote.measurement,
        predictor_key_sha256=opening.predictor_key_sha256,
        number=opening.number,
        rows=opening.rows,
        passes=len(opening.passes),
        until=datetime.fromtimestamp(opening.until, UTC),
    )
