"""The sandbox: one builder call in one fresh process, with what the data owner granted and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chiron.wasm_sandbox.answers import Logged, RunReport, failure_in, parse, run_bounds
from chiron.wasm_sandbox.capability_data import CapabilityData
from chiron.wasm_sandbox.codec import Buffer, Frame, Kind
from chiron.wasm_sandbox.compilation import compile_apart
from chiron.wasm_sandbox.engine import Backend
from chiron.wasm_sandbox.errors import Code, failure
from chiron.wasm_sandbox.limits import SandboxLimits
from chiron.wasm_sandbox.module_cache import ModuleCache, cache_key
from chiron.wasm_sandbox.process import Worker
from chiron.wasm_sandbox.run_terms import run_terms
from chiron.wasm_sandbox.terms import dump
from chiron.wire.contract import BuildRequest, CapabilityGrants, Trial

LogSink = Callable[[str, str], None]
"""Called with severity and message of each line that a builder logged."""
_GRACE_SECONDS = 15.0
"""What starting, loading and ending a worker may take beside the run itself."""


@dataclass(frozen=True)
class RawPlan:
    """What a builder answered: bounded in size and not looked at any further."""

    graph: bytes
    recipe: bytes
    report: RunReport
    """How the run went."""


class Sandbox:
    """Runs builders. Every call blocks, and starts and ends processes of its own."""

    def __init__(
        self,
        limits: SandboxLimits = SandboxLimits(),  # noqa: B008 - frozen
        *,
        backend: Backend = Backend.PULLEY,
        cache: Path | None = None,
        log: LogSink | None = None,
    ) -> None:
        """Compiled components are kept in the directory `cache`; without one, the last is kept in memory.

        `log` is for a builder's author. Inside an enclave there is none, and lines are only counted.

        Raises:
            CacheUnsafe: somebody else could write into `cache`.
        """
        self._limits = limits
        self._backend = backend
        self._cache = None if cache is None else ModuleCache(cache)
        self._last: tuple[str, Buffer] | None = None
        self._log = log

    def build(
        self,
        component: bytes,
        request: BuildRequest,
        grants: CapabilityGrants,
        data: CapabilityData,
        *,
        seed: int,
    ) -> RawPlan:
        """The builder's plan.

        Raises:
            ComponentRefused, CapabilityNotGranted: before any of its code ran.
            BuilderFailed, PlanRefused: by what it did.
            SandboxFailed: the process crashed, hung, or broke the protocol.
        """
        plan = self._call(component, request, None, grants, data, seed)
        if plan is None:
            raise failure(Code.SANDBOX_PROTOCOL, "no plan")
        return plan

    def revise(
        self,
        component: bytes,
        request: BuildRequest,
        history: Sequence[Trial],
        grants: CapabilityGrants,
        data: CapabilityData,
        *,
        seed: int,
    ) -> RawPlan | None:
        """The plan for the next trial, or None if the builder has no better idea, or no `revise`.

        Raises:
            SandboxError: as `build`.
        """
        return self._call(component, request, history, grants, data, seed)

    def _call(
        self,
        component: bytes,
        request: BuildRequest,
        history: Sequence[Trial] | None,
        grants: CapabilityGrants,
        data: CapabilityData,
        seed: int,
    ) -> RawPlan | None:
        terms, parts = run_terms(
            request,
            history,
            grants,
            data,
            seed=seed,
            limits=self._limits,
            backend=self._backend,
            keep_log=self._log is not None,
        )
        answer = self._ask(component, dump(terms), parts)
        failed = failure_in(answer)
        if failed is not None:
            self._tell(failed)
            raise failed.error()
        report = parse(RunReport, answer.parts[0])
        self._tell(report)
        return RawPlan(bytes(answer.parts[1]), bytes(answer.parts[2]), report) if report.present else None

    def _ask(self, component: bytes, terms: bytes, parts: tuple[bytes, bytes]) -> Frame:
        # By itself, so that a builder's error does not keep a module of 34 MB alive by its traceback.
        module = self._compiled(component)
        bounds = run_bounds(self._limits, keep_log=self._log is not None)
        with Worker(self._limits.run_seconds + _GRACE_SECONDS) as worker:
            return worker.ask(Frame(Kind.RUN, (terms, module, *parts)), bounds)

    def _tell(self, logged: Logged) -> None:
        if self._log is not None:
            for severity, message in logged.log:
                self._log(severity, message)

    def _compiled(self, component: bytes) -> Buffer:
        key = cache_key(component, self._backend, self._limits.stack_bytes)
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        module: Buffer | None = None if self._cache is None else self._cache.load(key)
        if module is None:
            _, module = compile_apart(component, self._limits, self._backend, keep=True)
            if self._cache is not None:
                self._cache.store(key, module)
        if self._cache is None:
            self._last = (key, module)
        return module
