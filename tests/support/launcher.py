"""One launcher for all tests. It keeps the production protocol; its backend says what runs an enclave.

    Scripts(socket)                           scripted answers over the real enclave API
    RolesInProcess(tee, socket, directory)    the real roles as tasks, their traffic recorded
    RolesAsProcesses(tee, socket, directory)  the real roles as `python -m chiron.runtime`

Like a hostile or unlucky host it can misbehave: refuse roles, cheat before a launch, and signal what it has
started. Backends add what only they can do (wrong answers, deaths at an exact call, another clock).
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from chiron.api.launchers.launcher import Enclave, LaunchOrder, Order
from chiron.wire.attestation import Role
from chiron.wire.public_api import ImageInfo
from tests.support.tee import MEASUREMENT

EXIT_INTERNAL = 1
"""What a role that ended with an error nobody foresaw exits with."""


class SimulatedEnclave(Enclave, Protocol):
    """A launched enclave as the host, and so a test, holds it."""

    @property
    def ended(self) -> bool:
        """Whether it runs no more."""
        ...

    def signal(self, number: signal.Signals) -> None:
        """Signal it, as the host may."""
        ...


class Backend(Protocol):
    """What runs an enclave."""

    async def start(self, order: Order, name: str) -> SimulatedEnclave:
        """Run the role that is ordered."""
        ...

    async def close(self) -> None:
        """Free what enclaves shared."""
        ...


BackendT = TypeVar("BackendT", bound=Backend)


@dataclass
class SimulatedLauncher(Generic[BackendT]):
    """See `chiron.api.launchers.launcher.Launcher`."""

    backend: BackendT
    measurement: str = MEASUREMENT.hex()
    refuses: frozenset[Role] = frozenset()
    """Roles that it fails to launch."""
    before: Callable[[LaunchOrder], None] = lambda _: None
    """Called at each launch, to cheat in between."""
    orders: list[LaunchOrder] = field(default_factory=list)
    enclaves: list[SimulatedEnclave] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.images: tuple[ImageInfo, ...] = (ImageInfo(measurement=self.measurement),)
        self._ordered = asyncio.Condition()

    @property
    def running(self) -> list[SimulatedEnclave]:
        """Those that have not ended."""
        return [enclave for enclave in self.enclaves if not enclave.ended]

    def latest(self, role: Role, index: int = 0) -> SimulatedEnclave:
        """The one launched last in this place."""
        return [one for one in self.enclaves if one.name == _name(role, index)][-1]

    async def launched(self, count: int) -> list[LaunchOrder]:
        """The first `count` orders, once they were given."""
        async with asyncio.timeout(5), self._ordered:
            await self._ordered.wait_for(lambda: len(self.orders) >= count)
        return self.orders[:count]

    async def launch(self, order: Order) -> SimulatedEnclave:
        """See `Launcher.launch`."""
        if order.role in self.refuses:
            raise OSError("no room for /secret/path")
        if isinstance(order, LaunchOrder):
            self.before(order)
            async with self._ordered:
                self.orders.append(order)
                self._ordered.notify_all()
        enclave = await self.backend.start(order, _name(order.role, order.index))
        self.enclaves.append(enclave)
        return enclave

    async def release(self, job: str) -> None:
        """See `Launcher.release`."""
        self.released.append(job)

    async def close(self) -> None:
        """See `Launcher.close`. Tasks are not ended here: those that a gateway forgot stay in `running`."""
        self.closed = True
        await self.backend.close()


def _name(role: Role, index: int) -> str:
    return f"{role}-{index}"


class TaskEnclave:
    """An enclave that is a task of this process; its result is the exit code."""

    def __init__(self, name: str, task: asyncio.Task[int]) -> None:
        self.name = name
        self.door: str | None = None
        self._task = task
        self._signalled = signal.SIGTERM

    @property
    def ended(self) -> bool:
        """See `SimulatedEnclave.ended`."""
        return self._task.done()

    def signal(self, number: signal.Signals) -> None:
        """End it, as if by SIGTERM or SIGKILL: its connections close, and it says nothing more to anybody."""
        if number not in (signal.SIGTERM, signal.SIGKILL):
            raise ValueError(f"a task cannot take {number.name}")
        self._signalled = number
        self._task.cancel()

    async def wait(self) -> int:
        """See `Enclave.wait`."""
        await asyncio.wait({self._task})
        return self.exit_code()

    def exit_code(self) -> int:
        """Once it has ended."""
        if self._task.cancelled() or self._signalled is signal.SIGKILL:
            return 128 + self._signalled
        return EXIT_INTERNAL if self._task.exception() else self._task.result()

    async def stop(self, grace_s: float) -> None:
        """See `Enclave.stop`."""
        self._task.cancel()
        await self.wait()
