"""What a launcher does: start one role of one job somewhere, and tell of its end."""

from dataclasses import dataclass
from typing import Protocol

from runtime.wire.attestation import Role
from runtime.wire.jobs import JobSpec


@dataclass(frozen=True)
class LaunchOrder:
    """Start this role of this job; `token` is what the enclave shows to the gateway."""

    role: Role
    job: str
    index: int
    spec: JobSpec
    token: str


class Enclave(Protocol):
    """One launched enclave."""

    name: str

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and end it after `grace_s` seconds."""
        ...


class Launcher(Protocol):
    """Starts enclaves of one image."""

    measurement: str
    """MRENCLAVE of that image, lowercase hex."""

    async def launch(self, order: LaunchOrder) -> Enclave:
        """Start an enclave; if this raises, nothing of it is left."""
        ...

    async def release(self, job: str) -> None:
        """Free what a job's enclaves shared; all of them have ended."""
        ...

    async def close(self) -> None:
        """End everything that is left."""
        ...
