"""This machine's key: asked of an enclave of the current image, which is launched for that and is of no job.

One at a time, and each tenant waits with one question at most: nobody can fill the machine with them.
"""

import asyncio
import hmac
import secrets
from dataclasses import dataclass, field

from chiron.api.errors import EnclaveGone, EnclaveTimeout, Overloaded, Unauthenticated
from chiron.api.launchers.launcher import Enclave, Launcher, MachineOrder
from chiron.api.problems import log_unexpected
from chiron.api.settings import Settings
from chiron.wire.attestation import Role
from chiron.wire.encoding import sha256_hex
from chiron.wire.machines import MachineEvidence


@dataclass(eq=False)
class AskedMachine:
    """The enclave that is asked now, as it is known at the enclaves' door."""

    token_sha256: str
    answer: "asyncio.Future[MachineEvidence | None]" = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """None once it has ended without one."""
    role: Role = Role.MACHINE

    def tell(self, told: MachineEvidence) -> None:
        """What it says; the first word counts."""
        if not self.answer.done():
            self.answer.set_result(told)

    def ended(self) -> None:
        """It says nothing any more."""
        if not self.answer.done():
            self.answer.set_result(None)


class Machines:
    """Launches enclaves that tell this machine's key."""

    def __init__(self, settings: Settings, launcher: Launcher) -> None:
        self._settings = settings
        self._launcher = launcher
        self._turn = asyncio.Lock()
        self._waiting: set[str] = set()
        """Tenants whose question waits or is being answered."""
        self._asked: AskedMachine | None = None

    def authenticate(self, token: str) -> AskedMachine:
        """The enclave that is being asked, if this is its token.

        Raises:
            Unauthenticated: it is not.
        """
        digest, asked = sha256_hex(token.encode()), self._asked
        if asked is None or not hmac.compare_digest(asked.token_sha256, digest):
            raise Unauthenticated("the token is not that of a running enclave")
        return asked

    async def key(self, tenant: str, nonce: bytes) -> MachineEvidence:
        """Launch an enclave of the current image; its evidence over the nonce.

        Raises:
            Overloaded: the tenant asks already.
            LauncherError, EnclaveGone, EnclaveTimeout: it could not be launched, ended, or was silent.
        """
        if tenant in self._waiting:
            raise Overloaded("this machine is being asked for you already")
        self._waiting.add(tenant)
        try:
            async with self._turn:
                return await self._answered(nonce)
        finally:
            self._waiting.discard(tenant)

    async def _answered(self, nonce: bytes) -> MachineEvidence:
        order = MachineOrder(job=secrets.token_hex(16), nonce=nonce, token=secrets.token_urlsafe(32))
        asked = self._asked = AskedMachine(sha256_hex(order.token.encode()))
        enclave: Enclave | None = None
        try:
            async with asyncio.timeout(self._settings.timing.launch_s):
                enclave = await self._launcher.launch(order)
                return await _told(asked, enclave)
        except TimeoutError:
            raise EnclaveTimeout("the enclave did not answer in time") from None
        finally:
            self._asked = None
            await self._ended(order.job, enclave)

    async def _ended(self, name: str, enclave: Enclave | None) -> None:
        try:
            if enclave is not None:
                await enclave.stop(0)
            await self._launcher.release(name)
        except Exception as error:
            log_unexpected(error, enclave=Role.MACHINE)


async def _told(asked: AskedMachine, enclave: Enclave) -> MachineEvidence:
    """What the enclave says.

    Raises:
        EnclaveGone: it ended without a word.
    """
    end = asyncio.create_task(enclave.wait())
    end.add_done_callback(lambda _: asked.ended())
    try:
        told = await asked.answer
    finally:
        end.cancel()
    if told is None:
        raise EnclaveGone("the enclave ended before it told its machine's key: its log says why")
    return told
