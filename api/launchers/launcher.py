"""What a launcher does: start one role of one job somewhere, and tell of its end."""

from dataclasses import dataclass
from typing import Protocol

from chiron.wire.attestation import Role
from chiron.wire.jobs import JobSpec
from chiron.wire.public_api import ImageInfo


@dataclass(frozen=True)
class LaunchOrder:
    """Start this role of this job; `token` is what the enclave shows to the gateway."""

    role: Role
    job: str
    index: int
    spec: JobSpec
    token: str
    measurement: str | None = None
    """Of the image to launch, one of the launcher's `images`; None is the current one."""
    taking: bool = False
    """A predictor that begins without a model, and waits for one of older code."""
    at_a_door: bool = False
    """A predictor that owners may reach directly, where the launcher has addresses for that."""


class Enclave(Protocol):
    """One launched enclave."""

    name: str
    door: str | None
    """host:port at which owners reach it directly."""

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, and end it after `grace_s` seconds."""
        ...


class Launcher(Protocol):
    """Starts enclaves of one image, and predictors of older ones too."""

    measurement: str
    """MRENCLAVE of the current image, lowercase hex."""
    images: tuple[ImageInfo, ...]
    """All that it can launch, the current one first."""

    async def launch(self, order: LaunchOrder) -> Enclave:
        """Start an enclave; if this raises, nothing of it is left."""
        ...

    async def release(self, job: str) -> None:
        """Free what a job's enclaves shared; all of them have ended."""
        ...

    async def close(self) -> None:
        """End everything that is left."""
        ...
