"""The client's verbs about passes: give one away, see what became of them, and take one back.

A pass is in force from the next opening of the job's predictor, and a revoked one until then. So an open
predictor is opened anew at once. A gateway that hides it gains little: what was lent ends with the opening.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from chiron.client.errors import ConfigurationInvalid, GatewayError
from chiron.client.gateway_session import GatewaySession
from chiron.client.history import Deed, note
from chiron.client.ledger import Ledger, Ledgers
from chiron.client.opening import Opener
from chiron.client.pass_file import PassFile, public_key_of
from chiron.client.passes import IssuedPass, PassBook
from chiron.client.predictors import JobId, job_id
from chiron.client.settling import settle_stored
from chiron.client.store import JobRecord, OwnerStore
from chiron.client.verifying import Verifier
from chiron.wire.attestation import Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.opening import MAX_PASSES, Pass
from chiron.wire.public_api import PredictorState


@dataclass(frozen=True)
class PassTerms:
    """What a pass lets its holder ask."""

    rows: int
    """In all."""
    until: datetime
    top_k: int = 0
    """Classes told per row; 0 is as many as the grant tells."""
    decimals: int = 9
    """Of scores, or as many as the grant tells where those are fewer."""


@dataclass(frozen=True)
class PassState:
    """A pass, and what is known to have become of it."""

    issued: IssuedPass
    handed_out: int
    """Rows that predictors were let answer under it: what was answered, and what may be yet."""
    answered: int
    """Rows that predictors, at the end of an opening, have stated to have answered under it."""
    lent_until: int | None
    """When the last opening that it is part of ends, seconds since 1970; None where no such is known."""


class SharingVerbs:
    """What `AsyncClient` does with passes."""

    gateway: GatewaySession
    store: OwnerStore
    _clock: Callable[[], datetime]
    _verifier: Verifier

    async def share(self, job: JobId, terms: PassTerms, holder: bytes | None = None) -> PassFile:
        """Make a pass, and tell it to the job's predictor if that is open; write its file with `write_pass`.

        `holder` is the public key (Ed25519) of a holder who made one (`chiron share key`). Without it the
        file holds a new key, and is a secret.

        Raises:
            ConfigurationInvalid: the terms cannot be, or are more than what is left of the grant's budget.
            PolicyMissing: this client was given no policy, which is to be the holder's too.
        """
        record = self.store.job(job_id(job))
        policy = await self._verifier.policy()
        holder_key = None if holder else Ed25519PrivateKey.generate().private_bytes_raw()
        allowed = _pass(record, terms, holder or public_key_of(holder_key or b""))
        self._check(allowed)
        guest = await self.gateway.invite_guest(record.spec.job, allowed.until, f"pass {allowed.id[:8]}")
        issued = IssuedPass(allowed=allowed, issued_at=self._seconds(), guest=guest.guest.key_id)
        PassBook(self.store).add(issued)
        facts = {"rows": allowed.rows, "until": allowed.until, "top_k": allowed.top_k}
        note(
            self.store,
            allowed.job,
            Deed.SHARED,
            pass_id=allowed.id,
            holder=sha256_hex(allowed.holder),
            **facts,
        )
        await self._tell(record)
        return PassFile(
            allowed=allowed,
            holder_key=holder_key,
            owner_public_key=record.signing_public_key,
            spec=record.spec,
            policy=policy,
            gateway=self.gateway.url,
            api_key=guest.key,
            class_names=record.class_names,
            settled=record.settled,
        )

    async def passes(self, job: JobId) -> list[PassState]:
        """All passes of the job that were made on this machine, oldest first."""
        record = self.store.job(job_id(job))
        with suppress(GatewayError):
            await settle_stored(self.gateway, self.store, record, self._seconds())
        ledger = Ledgers(self.store).read(record.spec.job)
        issued = PassBook(self.store).read(record.spec.job).passes
        return [_state(one, ledger) for one in issued]

    async def revoke(self, job: JobId, pass_id: str) -> bool:
        """Take a pass back; `pass_id` may be the beginning of its id. It may be repeated.

        Returns whether an open predictor was told. Where the gateway shows none, one that is open all the
        same answers what it was lent until its opening ends (`PassState.lent_until`).

        Raises:
            RecordMissing: no such pass was made on this machine.
            GatewayError: it is written down as revoked, but an open predictor could not be told.
        """
        record = self.store.job(job_id(job))
        revoked = PassBook(self.store).revoke(record.spec.job, pass_id, self._seconds())
        note(self.store, record.spec.job, Deed.REVOKED, pass_id=revoked.allowed.id)
        told = await self._tell(record)
        if revoked.guest is not None:
            try:
                await self.gateway.dismiss_guest(record.spec.job, revoked.guest)
            except GatewayError as error:
                if error.status != 404:
                    raise
        return told

    async def _tell(self, record: JobRecord) -> bool:
        """Open the job's predictor anew, if it is open: by other passes than it knows of."""
        status = await self.gateway.predictor(record.spec.job)
        if status.state is PredictorState.STOPPED:
            return False
        verified = await self._verifier.verified(self.gateway, record.spec.job, Role.PREDICTOR)
        if verified.claims.owner_key_sha256 is None:
            return False
        await self._opener().opened(self.gateway, record)
        return True

    def _check(self, allowed: Pass) -> None:
        if allowed.until <= self._seconds():
            raise ConfigurationInvalid("the pass would have ended already: name a later date")
        holding = PassBook(self.store).read(allowed.job).holding(self._seconds())
        if len(holding) >= MAX_PASSES:
            raise ConfigurationInvalid(
                f"at most {MAX_PASSES} passes of a job hold at a time: revoke one first"
            )
        ledger = Ledgers(self.store).read(allowed.job)
        if ledger.budget is None:
            return
        promised = sum(max(0, one.rows - ledger.pass_spent(one.id)) for one in holding)
        left = max(0, (ledger.left or 0) - promised)
        if allowed.rows > left:
            raise ConfigurationInvalid(
                f"the grant's query budget has {left} rows that are neither used nor promised to a pass, not "
                f"{allowed.rows}: share fewer, or revoke a pass"
            )

    def _opener(self) -> Opener:
        return Opener(self.gateway, self._verifier, self.store, self._clock)

    def _seconds(self) -> int:
        return int(self._clock().timestamp())


def _pass(record: JobRecord, terms: PassTerms, holder: bytes) -> Pass:
    try:
        return Pass(
            id=secrets.token_hex(16),
            job=record.spec.job,
            holder=holder,
            rows=terms.rows,
            until=int(terms.until.timestamp()),
            top_k=terms.top_k,
            decimals=terms.decimals,
        )
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise ConfigurationInvalid(f"there is no such pass: {wrong}") from error


def _state(issued: IssuedPass, ledger: Ledger) -> PassState:
    pass_id = issued.allowed.id
    return PassState(
        issued=issued,
        handed_out=ledger.pass_spent(pass_id),
        answered=ledger.passes.get(pass_id, 0),
        lent_until=max((loan.until for loan in ledger.loans if pass_id in loan.passes), default=None),
    )
