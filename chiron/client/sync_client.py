"""`AsyncClient` for scripts and notebooks: the same verbs, each waiting for its result.

Every verb is made from the asynchronous one, so that names, arguments and documentation cannot differ. The
event loop runs in a thread of its own: it works where a loop runs already, as in a notebook.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar, cast

from chiron.client.async_client import AsyncClient
from chiron.client.connecting import Connecting
from chiron.client.datasets import Encrypted, EncryptOptions, Source, as_source, encrypt
from chiron.client.predictions import Advance, PredictorSession
from chiron.client.store import OwnerStore
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.wire.attestation import AttestationPolicy

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Inner = TypeVar("_Inner")
_END: Final = object()
UNDOING_S = 10.0
"""How long an interrupted verb may take to undo what it began, such as a job that waits for its grant."""


class LoopThread:
    """An event loop in a thread of its own, for callers who wait."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="chiron-client", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        # At its end the runner cancels what is left, and closes generators nobody is in.
        with self._runner:
            self._runner.run(self._stopping.wait())

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def run(self, work: Awaitable[_Result]) -> _Result:
        """Wait for the result of `work`. An interrupt cancels it."""
        ended = threading.Event()

        async def told() -> _Result:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(told(), self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            ended.wait(UNDOING_S)
            raise

    def iterate(self, items: AsyncGenerator[_Result]) -> Generator[_Result, None, None]:
        """Items of an asynchronous generator, which is closed with this one."""
        try:
            while (item := self.run(anext(items, _END))) is not _END:
                yield cast("_Result", item)
        except GeneratorExit:
            self.run(items.aclose())
            raise

    @contextmanager
    def entered(self, block: AbstractAsyncContextManager[_Result]) -> Iterator[_Result]:
        """An asynchronous `with` block around this one."""
        inner = self.run(block.__aenter__())
        try:
            yield inner
        except BaseException as error:
            if not self.run(block.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            self.run(block.__aexit__(None, None, None))


class _Waiting(Generic[_Inner]):
    """A face of something asynchronous, whose verbs wait."""

    def __init__(self, inner: _Inner, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop


def _waits(
    verb: Callable[Concatenate[Any, _Arguments], Coroutine[Any, Any, _Result]],
) -> Callable[Concatenate[_Waiting[Any], _Arguments], _Result]:
    """The verb, waiting for its result."""

    @wraps(verb)
    def waiting(self: _Waiting[Any], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return self._loop.run(verb(self._inner, *args, **kwargs))

    return waiting


def _iterates(
    verb: Callable[Concatenate[Any, _Arguments], AsyncGenerator[_Result]],
) -> Callable[Concatenate[_Waiting[Any], _Arguments], Generator[_Result, None, None]]:
    """The verb, whose items are waited for one by one."""

    @wraps(verb)
    def waiting(
        self: _Waiting[Any], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Generator[_Result, None, None]:
        return self._loop.iterate(verb(self._inner, *args, **kwargs))

    return _returning(waiting, Generator)


def _returning(function: Callable[_Arguments, _Result], answer: Any) -> Callable[_Arguments, _Result]:
    """The function, whose help says that it returns `answer`, not what the verb that it wraps does."""
    signature = inspect.signature(function)
    function.__signature__ = signature.replace(return_annotation=answer)  # type: ignore[attr-defined]
    return function


class Predictor(_Waiting[PredictorSession]):
    """One verified predictor of one job."""

    predict = _waits(PredictorSession.predict)

    @property
    def verified(self) -> VerifiedEvidence:
        """The evidence that it showed."""
        return self._inner.verified


def _opens(
    verb: Callable[Concatenate[Any, _Arguments], Coroutine[Any, Any, PredictorSession]],
) -> Callable[Concatenate[_Waiting[Any], _Arguments], Predictor]:
    """The verb, whose predictor waits too."""

    @wraps(verb)
    def waiting(self: _Waiting[Any], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Predictor:
        return Predictor(self._loop.run(verb(self._inner, *args, **kwargs)), self._loop)

    return _returning(waiting, Predictor)


def _enters(
    verb: Callable[Concatenate[Any, _Arguments], AbstractAsyncContextManager[PredictorSession]],
) -> Callable[Concatenate[_Waiting[Any], _Arguments], AbstractContextManager[Predictor]]:
    """The verb, as a `with` block."""

    @wraps(verb)
    @contextmanager
    def waiting(
        self: _Waiting[Any], /, *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> Iterator[Predictor]:
        with self._loop.entered(verb(self._inner, *args, **kwargs)) as session:
            yield Predictor(session, self._loop)

    return _returning(waiting, AbstractContextManager[Predictor])


class Client(_Waiting[AsyncClient]):
    """The data owner's client. Use as a context manager.

    `policy` says which enclaves are acceptable. Without one everything works that entrusts nothing to an
    enclave.

    >>> client = Client("http://127.0.0.1:8799", api_key, policy=policy_of(["4f0c…"]))  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        policy: AttestationPolicy | None = None,
        store: OwnerStore | None = None,
        connecting: Connecting | None = None,
    ) -> None:
        """`url` and `api_key` default to the configuration (`chiron.client.configuration`).

        `connecting` is a connection that is being opened to that URL already.

        Raises:
            ConfigurationMissing, ConfigurationInvalid: it does not say them either.
        """
        loop = LoopThread()
        try:
            super().__init__(
                loop.run(_opened(url, api_key, policy=policy, store=store, connecting=connecting)), loop
            )
        except BaseException:
            loop.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._loop.run(self._inner.close())
        self._loop.stop()

    @property
    def store(self) -> OwnerStore:
        """The owner's keys and jobs."""
        return self._inner.store

    @property
    def policy(self) -> AttestationPolicy | None:
        """The owner's policy: which enclaves are acceptable."""
        return self._inner.policy

    @policy.setter
    def policy(self, policy: AttestationPolicy | None) -> None:
        self._inner.policy = policy

    def encrypt(
        self,
        source: Source | Any,
        directory: Path | str,
        options: EncryptOptions | None = None,
        advance: Advance | None = None,
    ) -> Encrypted:
        # Not by `_waits`: in the caller's own thread, where an interrupt removes what was written so far.
        opened = as_source(source)
        return encrypt(opened, Path(directory), self.store, options, advance)

    encrypt.__doc__ = AsyncClient.encrypt.__doc__
    upload_dataset = _waits(AsyncClient.upload_dataset)
    upload_builder = _waits(AsyncClient.upload_builder)
    builders = _waits(AsyncClient.builders)
    builder = _waits(AsyncClient.builder)
    find_builder = _waits(AsyncClient.find_builder)
    create_job = _waits(AsyncClient.create_job)
    job = _waits(AsyncClient.job)
    jobs = _waits(AsyncClient.jobs)
    verify_job = _waits(AsyncClient.verify_job)
    evidence = _waits(AsyncClient.evidence)
    send_grant = _waits(AsyncClient.send_grant)
    send_grant_again = _waits(AsyncClient.send_grant_again)
    training = _iterates(AsyncClient.training)
    train = _waits(AsyncClient.train)
    watch = _iterates(AsyncClient.watch)
    wait = _waits(AsyncClient.wait)
    reports = _waits(AsyncClient.reports)
    outcome = _waits(AsyncClient.outcome)
    predict = _waits(AsyncClient.predict)
    predictor = _opens(AsyncClient.predictor)
    open_if_running = _waits(AsyncClient.open_if_running)
    predictor_address = _waits(AsyncClient.predictor_address)
    direct_predictor = _enters(AsyncClient.direct_predictor)
    upgrade = _waits(AsyncClient.upgrade)
    share = _waits(AsyncClient.share)
    passes = _waits(AsyncClient.passes)
    revoke = _waits(AsyncClient.revoke)
    add_machine = _waits(AsyncClient.add_machine)
    check_machines = _waits(AsyncClient.check_machines)
    cancel = _waits(AsyncClient.cancel)
    forget_job = _waits(AsyncClient.forget_job)
    forget_dataset = _waits(AsyncClient.forget_dataset)
    observations = _waits(AsyncClient.observations)


async def _opened(url: str | None, api_key: str | None, **options: Any) -> AsyncClient:
    """A client made inside the loop that its connections will belong to."""
    return AsyncClient(url, api_key, **options)
