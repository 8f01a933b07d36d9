"""A whole service for tests: `chiron serve` as an operator starts it, and an owner beside it."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from onnx import TensorProto

from chiron import Client, Job, JobRequest, OwnerStore, policy_of
from chiron.builder_kit.component import static_component
from chiron.client.datasets import Encrypted, EncryptOptions
from chiron.client.gateway_session import GatewaySession
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.contract import CapabilityGrants, InputType
from chiron.wire.reports import Outcome
from tests.support import graphs
from tests.support.specs import builder_manifest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Service:
    """A gateway that answers, what it told at its start, and a directory for the owner."""

    url: str
    measurement: str
    software_root: Path
    operator_key: str
    owner_key: str
    state: Path
    home: Path

    @property
    def policy(self) -> AttestationPolicy:
        """Accepts this service's enclaves, under its software root."""
        return policy_of([self.measurement], software_root=self.software_root)

    def owner(self, policy: AttestationPolicy | None = None) -> Client:
        """A data owner's client."""
        return Client(
            self.url, self.owner_key, policy=policy or self.policy, store=OwnerStore(self.home / "owner")
        )

    def operator(self) -> Client:
        """The operator's client."""
        return Client(self.url, self.operator_key, store=OwnerStore(self.home / "operator"))


def _environment() -> dict[str, str]:
    """Ours, but that output is buffered as on most machines: what is told to a pipe must be told at once."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@contextmanager
def serving(state: Path, home: Path, *options: str) -> Iterator[Service]:
    """`chiron serve` on a free port, stopped in order at the end of the block."""
    command = [sys.executable, "-m", "chiron", "serve", "--state-dir", str(state), "--port", "0", "--json"]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "gateway.log").open("a") as log:
        process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment()
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (home / "gateway.log").read_text()[-3000:]
        told = json.loads(line)
        yield Service(
            url=told["url"],
            measurement=told["measurement"],
            software_root=Path(told["software_root"]),
            operator_key=told["operator_key"],
            owner_key=told["owner_key"],
            state=state,
            home=home,
        )
    finally:
        process.terminate()
        assert process.wait(30) == 0


class Arguments:
    """The arguments of every process of this machine, looked at all the time while the block lasts."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._looking.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for process in Path("/proc").glob("[0-9]*"):
                # It may have ended by now.
                with suppress(OSError):
                    self.seen.add((process / "cmdline").read_bytes())


def stopped(service: Service, job: str) -> None:
    """End the job's predictor: whoever asks next starts another."""

    async def stop() -> None:
        async with GatewaySession(service.url, service.owner_key) as gateway:
            await gateway.stop_predictor(job)

    asyncio.run(stop())


def encrypted_digits(owner: Client, directory: Path) -> Encrypted:
    """scikit-learn's digits, encrypted and uploaded, a fifth held out."""
    options = EncryptOptions(held_out_percent=20)
    encrypted = owner.encrypt("sklearn:digits", directory, options)
    owner.upload_dataset(encrypted.bundle)
    return encrypted


def start_and_grant(owner: Client, request: JobRequest) -> Job:
    """A job that has its grant: everything that its builder asks for."""
    job = owner.create_job(request)
    info = next(info for info in owner.builders() if info.sha256 == request.builder_sha256)
    verified = owner.verify_job(job)
    owner.send_grant(verified, capabilities=CapabilityGrants(granted=frozenset(info.capabilities)))
    return job


def run_to_end(owner: Client, request: JobRequest) -> tuple[Job, Outcome]:
    """A job from its request to its sealed outcome."""
    job = owner.wait(start_and_grant(owner, request))
    return job, owner.outcome(job)


MANIFEST = builder_manifest(name="linear", envelope={"max_parameters": 1000, "max_graph_bytes": 65_536})


def element_type(encrypted: Encrypted) -> int:
    """ONNX's number of the dataset's input type."""
    uint8 = encrypted.bundle.manifest.input_dtype is InputType.UINT8
    return int(TensorProto.UINT8 if uint8 else TensorProto.FLOAT)


def publish_linear(operator: Client, digits: Encrypted) -> str:
    """SHA-256 of a builder that answers a linear classifier for this dataset, whatever it is asked."""
    graph = graphs.linear(digits.bundle.manifest.input_shape, element_type(digits))
    component = static_component(graph, graphs.RECIPE)
    return operator.upload_builder(component, MANIFEST.model_dump_json().encode()).sha256
