"""A shard's place in its job: admitted by the parameter server, and by each of its successors anew."""

import asyncio
import time
from types import TracebackType
from typing import Self

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.channels.applying import apply, stranger_session, verify_server
from chiron.runtime.channels.enrolment import ENDED_PATH, ENROL_SHARD_PATH, ShardAdmission, load_certificate
from chiron.runtime.channels.parameter_server import PATIENCE_S, Find
from chiron.runtime.errors import PeerLost, PeerRefused
from chiron.wire.enclave_api import Ready
from chiron.wire.launch import LaunchSpec
from chiron.wire.p256 import public_key_der

_PAUSE_S = 0.1


class ShardMembership:
    """Use as an async context manager."""

    def __init__(
        self, launch: LaunchSpec, platform: Platform, key: ec.EllipticCurvePrivateKey, find: Find
    ) -> None:
        self._launch = launch
        self._platform = platform
        self._public_key = public_key_der(key.public_key())
        self._find = find
        self._address = ""
        self._session: aiohttp.ClientSession | None = None
        self.grant_name = b""
        self.authority: x509.Certificate
        """The job CA of the parameter server as it is now."""
        self.certificate: x509.Certificate
        """Ours, of that CA."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def join(self) -> None:
        """Find the parameter server, verify it, and be admitted.

        Raises:
            PeerRefused: it is not one of our measurement and job, or serves another grant or spec.
            PeerLost: it was away for `PATIENCE_S`.
        """
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                peer = await self._find()
                if self._session is None or peer.address != self._address:
                    await self._enter(peer)
            except (aiohttp.ClientError, OSError) as error:
                if time.monotonic() > deadline:
                    raise PeerLost("peer-unreachable", "the parameter server stayed away") from error
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def ended(self) -> bool:
        """Wait until the job's schedule is over, or until there is another parameter server (False).

        Raises:
            PeerRefused, PeerLost: as `join`.
        """
        address = self._address
        deadline: float | None = None
        while self._session is not None:
            began = time.monotonic()
            try:
                async with self._session.get(ENDED_PATH) as response:
                    if response.status == 204:
                        return True
                    raise PeerRefused("peer-message-invalid", f"the server answered {response.status}")
            except (aiohttp.ClientError, OSError) as error:
                now = time.monotonic()
                if deadline is None or now - began > PATIENCE_S:
                    deadline = now + PATIENCE_S
                if now > deadline:
                    raise PeerLost("peer-unreachable", "the parameter server stayed away") from error
            await asyncio.sleep(_PAUSE_S)
            await self.join()
            if self._address != address:
                break
        return False

    async def _enter(self, peer: Ready) -> None:
        authority, address = verify_server(peer, self._launch, self._platform, self._public_key)
        session = stranger_session(authority, address)
        try:
            admitted = await apply(
                session, ENROL_SHARD_PATH, ShardAdmission, self._launch, self._platform, self._public_key
            )
            self._check(admitted)
        except BaseException:
            await session.close()
            raise
        if self._session is not None:
            await self._session.close()
        self._session, self._address = session, address
        self.authority, self.certificate = authority, load_certificate(admitted.certificate)

    def _check(self, admitted: ShardAdmission) -> None:
        if admitted.spec_digest != self._launch.spec.digest():
            raise PeerRefused("peer-spec-differs", "the host launched us with another spec than the owner's")
        if self.grant_name not in (b"", admitted.grant_name):
            raise PeerRefused("peer-ticket-differs", "the parameter server holds another grant than before")
        self.grant_name = admitted.grant_name
