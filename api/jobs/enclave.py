"""One launched enclave as the gateway knows it: its token, mailbox, address and end."""

import asyncio
import hmac
import secrets
from dataclasses import dataclass, field

from chiron.api.errors import EnclaveGone
from chiron.api.jobs.mailbox import Mailbox
from chiron.api.launchers.launcher import Enclave
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.jobs import JobSpec


@dataclass(eq=False)
class LaunchedEnclave:
    """From the order to launch it until its exit."""

    launch_id: str
    token_sha256: str
    role: Role
    index: int
    spec: JobSpec
    tenant: str
    mailbox: Mailbox
    ready: "asyncio.Future[Ready]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    exit_code: int | None = None
    handle: Enclave | None = None
    measurement: str | None = None
    """Of the image it is launched from; None is the current one."""
    taking: bool = False
    """Waits for a model of older code, and has none of its own before."""

    @property
    def name(self) -> str:
        """For logs and observations."""
        return f"{self.role}-{self.index}"

    def holds(self, secret: str) -> bool:
        """Whether `secret` is its token's; tells nothing by its time."""
        return hmac.compare_digest(self.token_sha256, sha256_hex(secret.encode()))

    def announce(self, ready: Ready) -> None:
        """It is up; said again, the first word counts."""
        if not self.ready.done():
            self.ready.set_result(ready)

    async def address(self, seconds: float) -> Ready | None:
        """Where it listens, or None if it does not say so in `seconds`.

        Raises:
            EnclaveGone: it has ended.
        """
        done, _ = await asyncio.wait({self.ready}, timeout=seconds)
        return self.ready.result() if done else None

    def close(self, exit_code: int | None) -> None:
        """It has ended: its token and mailbox with it."""
        self.exit_code = exit_code
        self.mailbox.close()
        if not self.ready.done():
            self.ready.set_exception(EnclaveGone("the enclave has ended"))
            self.ready.exception()  # Nobody has to be waiting for it.
        self.gone.set()


def new_token() -> tuple[str, str, str]:
    """(launch id, secret, token): the token is `<launch id>.<secret>`, and only the secret's hash is kept."""
    launch_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return launch_id, secret, f"{launch_id}.{secret}"
