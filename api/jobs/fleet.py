"""The enclaves that run now: launched, known by their tokens, watched, ended."""

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import func, select, update

from chiron.api.allowed_machines import allowed_machines
from chiron.api.errors import EnclaveGone, Unauthenticated
from chiron.api.jobs.mailbox import Mailbox
from chiron.api.launchers.launcher import Enclave, Launcher, LaunchOrder
from chiron.api.monitoring import Metrics
from chiron.api.problems import log_unexpected
from chiron.api.settings import Settings
from chiron.api.storage.database import Database
from chiron.api.storage.tables import LaunchRow, now
from chiron.wire.attestation import Role
from chiron.wire.enclave_api import Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.jobs import JobSpec

_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class LaunchedEnclave:
    """One enclave, from the order to launch it until its exit: its token, mailbox and address."""

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
    """The measurement of the image it is launched from; None is the current one."""
    taking: bool = False
    """True while it waits for the model that an enclave of older code gives it."""

    asked: int = 0
    """Messages to it that are under way."""
    used_at: float = field(default_factory=time.monotonic)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """A block in which it is asked something."""
        with self.watched():
            try:
                yield
            finally:
                self.used_at = time.monotonic()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block in which somebody looks at it: not ended meanwhile, and as idle afterwards as it was."""
        self.asked += 1
        try:
            yield
        finally:
            self.asked -= 1

    @property
    def idle_s(self) -> float:
        """How long nobody has asked it anything."""
        return 0.0 if self.asked else time.monotonic() - self.used_at

    @property
    def name(self) -> str:
        """For logs and observations."""
        return f"{self.role}-{self.index}"

    def holds(self, secret: str) -> bool:
        """Whether `secret` is its token's; tells nothing by its time."""
        return hmac.compare_digest(self.token_sha256, sha256_hex(secret.encode()))

    def announce(self, ready: Ready) -> None:
        """It is up. Said again, it was used at its own door, unseen by us; or it has newer evidence.

        Where it listens, and by which CA, the first word says.
        """
        self.used_at = time.monotonic()
        if self.ready.done():
            said = self.ready.result()
            if ready.evidence is None or (ready.address, ready.tls_ca) != (said.address, said.tls_ca):
                return
            self.ready = asyncio.get_running_loop().create_future()
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


class Fleet:
    """All enclaves of all jobs."""

    def __init__(self, settings: Settings, database: Database, launcher: Launcher, metrics: Metrics) -> None:
        self._settings = settings
        self._database = database
        self._launcher = launcher
        self._metrics = metrics
        self._by_launch: dict[str, LaunchedEnclave] = {}
        self._watchers: set[asyncio.Task[None]] = set()
        self.stopping = False
        """Set when the gateway begins to stop: what it ends then is launched again at the next start."""

    def authenticate(self, token: str) -> LaunchedEnclave:
        """The running enclave whose token this is.

        Raises:
            Unauthenticated: there is none: never was, or it has ended.
        """
        launch_id, _, secret = token.partition(".")
        enclave = self._by_launch.get(launch_id)
        if enclave is None or not enclave.holds(secret):
            raise Unauthenticated("the token is not that of a running enclave")
        return enclave

    def find(self, job: str, role: Role, index: int = 0) -> LaunchedEnclave | None:
        """The job's enclave in this role, if it runs."""
        for enclave in self._by_launch.values():
            if enclave.spec.job == job and enclave.role is role and enclave.index == index:
                return enclave
        return None

    def of(self, job: str, roles: frozenset[Role]) -> list[LaunchedEnclave]:
        """A job's enclaves in these roles that run."""
        running = self._by_launch.values()
        return [enclave for enclave in running if enclave.spec.job == job and enclave.role in roles]

    def register(self, tenant: str, spec: JobSpec, role: Role, index: int = 0) -> tuple[LaunchedEnclave, str]:
        """An enclave-to-be with its token. It has a mailbox already, and may call as soon as it starts."""
        launch_id, secret, token = new_token()
        enclave = LaunchedEnclave(
            launch_id=launch_id,
            token_sha256=sha256_hex(secret.encode()),
            role=role,
            index=index,
            spec=spec,
            tenant=tenant,
            mailbox=Mailbox(self._settings.limits.mailbox_messages),
        )
        self._by_launch[launch_id] = enclave
        self._metrics.enclaves.labels(role).inc()
        return enclave, token

    async def start(self, enclave: LaunchedEnclave, token: str) -> None:
        """Launch it, and watch for its end. Whatever goes wrong, its token is no longer good.

        Raises:
            Exception: whatever the launcher raises; TimeoutError if it takes too long.
        """
        job = enclave.spec.job
        try:
            async with self._database.writing() as session:
                session.add(
                    LaunchRow(
                        id=enclave.launch_id,
                        job=job,
                        role=enclave.role,
                        number=enclave.index,
                        token_sha256=enclave.token_sha256,
                    )
                )
            order = LaunchOrder(
                enclave.role,
                job,
                enclave.index,
                enclave.spec,
                token,
                measurement=enclave.measurement,
                taking=enclave.taking,
                at_a_door=enclave.role is Role.PREDICTOR and enclave.index == 0,
                machines=self._machines(enclave),
            )
            async with asyncio.timeout(self._settings.timing.launch_s):
                enclave.handle = await self._launcher.launch(order)
        except BaseException:
            self._forget(enclave, None)
            raise
        _LOG.info("launched", extra={"job": job, "enclave": enclave.name, "name_there": enclave.handle.name})
        watcher = asyncio.create_task(self._watch(enclave, enclave.handle))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    def _machines(self, enclave: LaunchedEnclave) -> tuple[str, ...]:
        """Only for who judges what an owner names: older images refuse fields that they do not know."""
        judges = enclave.role is Role.PARAMETER_SERVER or enclave.taking
        return allowed_machines(self._settings) if judges else ()

    async def dismiss(self, job: str, roles: frozenset[Role], leave_s: float = 0) -> None:
        """End a job's enclaves in these roles, with `leave_s` to go by themselves; free what they held.

        A predictor can be waiting already while the training enclaves leave: hence the roles.
        """
        enclaves = self.of(job, roles)
        if enclaves:
            leaving = [asyncio.create_task(enclave.gone.wait()) for enclave in enclaves]
            _, staying = await asyncio.wait(leaving, timeout=leave_s)
            for task in staying:
                task.cancel()
        await asyncio.gather(*(self.stop(enclave) for enclave in self.of(job, roles)))
        try:
            await self._launcher.release(job)
        except Exception as error:
            log_unexpected(error, job=job)

    async def revoke_left_over(self) -> frozenset[str]:
        """End, on record, the launches of an earlier gateway process; the jobs whose predictors ran."""
        left = LaunchRow.exited_at.is_(None)
        predictors = select(LaunchRow.job).where(left, LaunchRow.role == Role.PREDICTOR)
        async with self._database.writing() as session:
            jobs = frozenset(await session.scalars(predictors))
            await session.execute(update(LaunchRow).where(left).values(exited_at=now()))
        return jobs

    async def launches(self, job: str, role: Role) -> int:
        """The launches so far of the job's first enclave in this role, by earlier processes too."""
        query = (
            select(func.count())
            .select_from(LaunchRow)
            .where(LaunchRow.job == job, LaunchRow.role == role, LaunchRow.number == 0)
        )
        async with self._database.reading() as session:
            return await session.scalar(query) or 0

    async def close(self) -> None:
        """Wait until every exit is written down; a process that would not end is not waited for."""
        watchers = set(self._watchers)
        if watchers:
            _, stuck = await asyncio.wait(watchers, timeout=self._settings.timing.enclave_stop_s)
            for watcher in stuck:
                watcher.cancel()

    async def stop(self, enclave: LaunchedEnclave) -> None:
        """End one enclave; what its job's enclaves share stays."""
        if enclave.handle is None:
            self._forget(enclave, None)
            return
        grace = self._settings.timing.enclave_stop_s
        try:
            async with asyncio.timeout(grace + 10):
                await enclave.handle.stop(grace)
                await enclave.gone.wait()
        except Exception as error:
            # A launcher that cannot stop it must not keep the token alive too.
            log_unexpected(error, job=enclave.spec.job, enclave=enclave.name)
            self._forget(enclave, None)

    async def _watch(self, enclave: LaunchedEnclave, handle: Enclave) -> None:
        code: int | None = None
        try:
            code = await handle.wait()
        except Exception as error:
            log_unexpected(error, job=enclave.spec.job, enclave=enclave.name)
        self._forget(enclave, code)
        _LOG.info("exited", extra={"job": enclave.spec.job, "enclave": enclave.name, "exit_code": code})
        if self.stopping and enclave.role is Role.PREDICTOR:
            return
        query = update(LaunchRow).where(LaunchRow.id == enclave.launch_id)
        async with self._database.writing() as session:
            await session.execute(query.values(exited_at=now(), exit_code=code, name=handle.name[:200]))

    def _forget(self, enclave: LaunchedEnclave, code: int | None) -> None:
        if self._by_launch.pop(enclave.launch_id, None) is not None:
            self._metrics.enclaves.labels(enclave.role).dec()
            enclave.close(code)
