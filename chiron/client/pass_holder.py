"""Asking another's model under a pass: without a store, a configuration, or being its owner.

Like an owner, the holder trusts no gateway: the predictor is verified with a fresh nonce, by the policy in
the pass, and must serve the model of the owner that the pass names. The holder's key signs the queries.

A holder may have a stopped predictor started. One that is locked only its owner opens: the holder waits.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.client.datasets.rows import inputs_of
from chiron.client.errors import AnswerRefused, EvidenceRejected, GatewayError, NotDirect, PassUnusable
from chiron.client.gateway_session import GatewaySession
from chiron.client.pass_file import PassFile, public_key_of, read_holder_key, read_pass
from chiron.client.predictions import Advance, Inquirer, OnAnswer, Predictions, PredictorSession
from chiron.client.ra_tls import attested_connector
from chiron.runtime.attestation.verify import Expected, VerifiedEvidence, verify
from chiron.runtime.errors import EvidenceRefused
from chiron.wire import codes
from chiron.wire.attestation import Role
from chiron.wire.opening import Pass
from chiron.wire.public_api import PredictorState

NONCE_BYTES = 32
READY_S = 120.0
"""How long a predictor may take to start."""
WAIT_S = 30.0
"""How long a locked predictor's owner has to open it, unless told otherwise: a keyholder does it at once."""
LOOK_EVERY_S = 1.0
PREDICTOR_LOCKED = "predictor-locked"
_LOCKED = (
    "the predictor is locked: ask its owner to open it (`chiron predict`) or to keep `chiron keyholder` "
    "running; then ask again, or wait longer (`--wait SECONDS`)"
)
_WORDS = {
    codes.ENCLAVE_NOT_RUNNING: "no predictor runs: `chiron predict --pass` starts it",
    codes.ENCLAVE_GONE: "the predictor has ended: ask again, which starts it",
    "job-not-succeeded": "the job has no model yet: ask its owner when it has ended",
    PREDICTOR_LOCKED: _LOCKED,
    "query-unauthorised": (
        "the predictor does not know this pass: its owner has revoked it, or has not opened the predictor "
        "since it was made. Ask them"
    ),
    "unauthenticated": "the gateway does not take the pass's key any more: ask its owner for another pass",
}
"""What a refusal means to a holder, and what to do about it."""


class PassHolder:
    """Asks a job's predictor under a pass. Use as an async context manager.

    >>> holder = PassHolder.from_file("colleague.pass")  # doctest: +SKIP
    """

    def __init__(
        self,
        content: PassFile,
        holder_key: bytes | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`holder_key` is the holder's own, where the pass does not hold it.

        Raises:
            PassUnusable: there is no key, or not the one that the pass names.
        """
        key = holder_key or content.holder_key
        if key is None:
            raise PassUnusable("the pass is for a key of your own: name its file (--key FILE)")
        if public_key_of(key) != content.allowed.holder:
            raise PassUnusable("the pass is for another holder's key")
        self.content = content
        """All that the pass's file says."""
        self._clock = clock
        self._inquirer = Inquirer(
            content.spec,
            Ed25519PrivateKey.from_private_bytes(key),
            content.allowed.id,
            content.class_names,
        )
        self._gateway = GatewaySession(content.gateway, content.api_key or None)

    @classmethod
    def from_file(cls, path: Path | str, key: Path | str | None = None) -> Self:
        """With the pass in a file, and the holder's own key in another where the pass has none.

        Raises:
            PassUnusable, RecordUnusable: one of the files cannot be used.
        """
        return cls(read_pass(Path(path)), read_holder_key(Path(key)) if key else None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. The holder cannot be used afterwards."""
        await self._gateway.close()

    @property
    def allowed(self) -> Pass:
        """What the pass lets its holder ask, as its file says; the predictor goes by what its owner says."""
        return self.content.allowed

    async def verify(self, address: str | None = None) -> VerifiedEvidence:
        """Fetch the predictor's evidence over a fresh nonce and verify it; at `address`, where one is given.

        Raises:
            EvidenceRejected: a step did not hold, or it serves another owner's model.
            AnswerRefused: the pass has expired, no predictor runs, or it is locked.
        """
        with _in_words():
            async with self._door(direct=False, address=address) as session:
                return await self._verified(session)

    async def predict(
        self,
        rows: Any,
        advance: Advance | None = None,
        *,
        direct: bool = False,
        address: str | None = None,
        wait_s: float = WAIT_S,
        on_answer: OnAnswer | None = None,
    ) -> Predictions:
        """Predict rows, as in `AsyncClient.predict`: verify the predictor, ask sealed, open its answers.

        One that is stopped is started; its owner has `wait_s` seconds to open one that is locked. With
        `direct`, at the predictor's own address: `address`, host:port, or what the gateway says.

        Raises:
            EvidenceRejected: as `verify`.
            RowsInvalid: the rows are not of the job's input shape and type.
            AnswerRefused: the predictor gave none; its code says why.
        """
        with _in_words():
            self._check_time()
            x = inputs_of(rows, self.content.spec.dataset, self.content.settled)
            if address is None:
                await self._start()
            async with self._door(direct, address) as session:
                verified = await self._opened(session, wait_s)
                asking = PredictorSession(session, self._inquirer, verified)
                return await asking.predict(x, advance, on_answer)

    @asynccontextmanager
    async def _door(self, direct: bool, address: str | None = None) -> AsyncIterator[GatewaySession]:
        """The session that leads to the predictor, once the pass may be used at all."""
        self._check_time()
        if not direct and address is None:
            yield self._gateway
            return
        address = address or (await self._gateway.predictor(self.allowed.job)).address
        if address is None:
            raise NotDirect("this operator's predictors are reached through the gateway only")
        connector = attested_connector(self.content.policy, Role.PREDICTOR, self.allowed.job)
        async with GatewaySession(f"https://{address}", None, connector) as session:
            yield session

    def _check_time(self) -> None:
        if self._clock().timestamp() >= self.allowed.until:
            until = datetime.fromtimestamp(self.allowed.until, UTC)
            raise AnswerRefused(
                f"the pass ended at {until:%Y-%m-%d %H:%M} UTC: ask its owner for another",
                code="pass-expired",
            )

    async def _start(self) -> None:
        """Have the gateway start the predictor, if none runs, and wait until it is ready."""
        status = await self._gateway.start_predictor(self.allowed.job)
        give_up = time.monotonic() + READY_S
        while status.state is PredictorState.STARTING:
            if time.monotonic() >= give_up:
                raise AnswerRefused(
                    f"the predictor has not started in {READY_S:.0f} s: ask again later, or its operator",
                    code=codes.ENCLAVE_TIMEOUT,
                )
            await asyncio.sleep(LOOK_EVERY_S / 4)
            status = await self._gateway.predictor(self.allowed.job)

    async def _opened(self, session: GatewaySession, wait_s: float) -> VerifiedEvidence:
        """The predictor's evidence once its owner has opened it."""
        give_up = time.monotonic() + wait_s
        while True:
            try:
                return await self._verified(session)
            except AnswerRefused as error:
                if error.code != PREDICTOR_LOCKED or time.monotonic() >= give_up:
                    raise
            await asyncio.sleep(min(LOOK_EVERY_S, max(0.0, give_up - time.monotonic())))

    async def _verified(self, session: GatewaySession) -> VerifiedEvidence:
        nonce, job = secrets.token_bytes(NONCE_BYTES), self.allowed.job
        evidence = await session.evidence(job, Role.PREDICTOR, nonce)
        owner = self.content.owner_key_sha256
        # A locked predictor names nobody yet. It is verified all the same, but what it is told is nothing.
        named = owner if evidence.claims.owner_key_sha256 is not None else None
        expected = Expected(Role.PREDICTOR, job, nonce, owner_key_sha256=named)
        try:
            verified = verify(evidence, self.content.policy, expected, self._clock())
        except EvidenceRefused as error:
            raise EvidenceRejected(str(error), code=error.code, steps=error.steps) from error
        if verified.claims.owner_key_sha256 is None:
            raise AnswerRefused(_LOCKED, code=PREDICTOR_LOCKED)
        return verified


@contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except GatewayError as error:
        if error.code not in _WORDS:
            raise
        raise AnswerRefused(_WORDS[error.code], code=error.code) from error
