"""`AsyncClient` for scripts and notebooks: the same verbs, each waiting for its result.

The event loop runs in a thread of its own, so it works where a loop runs already, as in a notebook.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self, TypeVar

from numpy.typing import NDArray

from chiron.client.async_client import Advance, AsyncClient, JobId
from chiron.client.datasets import Bundle, Encrypted, EncryptOptions, Source, encrypt, open_source
from chiron.client.predictions import Predictions
from chiron.client.store import OwnerStore
from chiron.runtime.attestation.verify import VerifiedEvidence
from chiron.wire.attestation import AttestationPolicy, Role
from chiron.wire.builders import BuilderInfo
from chiron.wire.contract import CapabilityGrants
from chiron.wire.enclave_api import Observation
from chiron.wire.grants import Grant, PredictionPolicy
from chiron.wire.jobs import Job, JobRequest
from chiron.wire.reports import Outcome, TrainingReport

_Result = TypeVar("_Result")


class Client(AbstractContextManager["Client"]):
    """The data owner's client. Errors and promises are those of the `AsyncClient` method of the same name.

    >>> client = Client("http://127.0.0.1:8799", api_key, policy=policy_of(["4f0c…"]))  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        policy: AttestationPolicy | None = None,
        store: OwnerStore | None = None,
    ) -> None:
        """See `AsyncClient`."""
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._live, name="chiron-client", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(_opened(url, api_key, policy, store))
        except BaseException:
            self._stop()
            raise
        self.store = self._client.store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. The client cannot be used afterwards."""
        self._run(self._client.gateway.close())
        self._stop()

    def _live(self) -> None:
        # At its end the runner cancels what an interrupt has left, and closes generators nobody is in.
        with self._runner:
            self._runner.run(self._stopping.wait())

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def encrypt(
        self,
        source: Source | str,
        directory: Path | str,
        options: EncryptOptions | None = None,
        advance: Advance | None = None,
    ) -> Encrypted:
        """Encrypt a source, or what `open_source` finds by this name, into a new bundle."""
        opened = open_source(source) if isinstance(source, str) else source
        return encrypt(opened, Path(directory), self.store, options, advance)

    def upload_dataset(self, bundle: Bundle | Path, advance: Advance | None = None) -> str:
        """Upload an encrypted dataset, or the rest of it; returns its id."""
        return self._run(self._client.upload_dataset(bundle, advance))

    def upload_builder(self, component: bytes, manifest: bytes) -> BuilderInfo:
        """As operator: publish a builder."""
        return self._run(self._client.upload_builder(component, manifest))

    def builders(self) -> list[BuilderInfo]:
        """The builders that this gateway offers."""
        return self._run(self._client.builders())

    def create_job(self, request: JobRequest) -> Job:
        """Create a job and remember it."""
        return self._run(self._client.create_job(request))

    def job(self, job: JobId) -> Job:
        """The job as the gateway tells it."""
        return self._run(self._client.job(job))

    def jobs(self) -> list[Job]:
        """All jobs of this API key's tenant."""
        return self._run(self._client.jobs())

    def verify_job(self, job: JobId, role: Role = Role.PARAMETER_SERVER) -> VerifiedEvidence:
        """Fetch evidence over a fresh nonce and verify it."""
        return self._run(self._client.verify_job(job, role))

    def send_grant(
        self,
        verified: VerifiedEvidence,
        *,
        capabilities: CapabilityGrants | None = None,
        prediction: PredictionPolicy | None = None,
    ) -> Grant:
        """Entrust the dataset's key to the enclave of verified evidence."""
        return self._run(self._client.send_grant(verified, capabilities=capabilities, prediction=prediction))

    def watch(self, job: JobId) -> Iterator[Job]:
        """The job each time its public progress changes, until it has ended."""
        events = self._client.watch(job)
        try:
            while (event := self._run(_next(events))) is not None:
                yield event
        except GeneratorExit:
            # Not at an interrupt, which can leave the loop's thread inside the generator.
            self._run(events.aclose())
            raise

    def wait(self, job: JobId) -> Job:
        """Wait until the job has run its schedule."""
        return self._run(self._client.wait(job))

    def reports(self, job: JobId) -> list[TrainingReport]:
        """The decrypted reports of the exchanges so far."""
        return self._run(self._client.reports(job))

    def outcome(self, job: JobId) -> Outcome:
        """How the job really ended; only its owner can read it."""
        return self._run(self._client.outcome(job))

    def predict(
        self, job: JobId, x: NDArray[Any], advance: Advance | None = None, *, direct: bool = False
    ) -> Predictions:
        """Predict rows: verify the predictor, ask sealed, open its answers."""
        return self._run(self._client.predict(job, x, advance, direct=direct))

    def upgrade(self, job: JobId) -> VerifiedEvidence:
        """Move the job's model to the newer enclave code that this client's policy accepts."""
        return self._run(self._client.upgrade(job))

    def cancel(self, job: JobId) -> None:
        """Cancel a job."""
        self._run(self._client.cancel(job))

    def observations(self, job: JobId) -> list[Observation]:
        """All that the operator's side stored and relayed for the job."""
        return self._run(self._client.observations(job))


async def _opened(
    url: str | None, api_key: str | None, policy: AttestationPolicy | None, store: OwnerStore | None
) -> AsyncClient:
    """Made inside the loop that its connections will belong to."""
    return AsyncClient(url, api_key, policy=policy, store=store)


async def _next(events: AsyncGenerator[Job]) -> Job | None:
    return await anext(events, None)
