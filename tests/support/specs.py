"""Specs, manifests and launches for tests: small and valid, with what a test is about changed by name.

For instance `job_spec(exchange={"trainers": 1})` and `dataset_manifest(classes=2, input_shape=(2,))`.
"""

from typing import Any

from chiron.wire.attestation import Role
from chiron.wire.contract import BuilderManifest, InputType, Task
from chiron.wire.datasets import DatasetManifest
from chiron.wire.exchange import ExchangeTerms
from chiron.wire.jobs import JobSpec
from chiron.wire.launch import GatewayChannel, LaunchSpec, SoftwarePlatformSpec

UNPACED = ExchangeTerms(unpaced=True)
"""Of jobs that are not about time: they are over sooner."""
JOB = "a" * 32
OTHER_JOB = "f" * 32
DIGITS = {"input_shape": (8, 8), "input_dtype": InputType.UINT8, "classes": 10}
"""What a manifest says of scikit-learn's handwritten digits."""


def dataset_manifest(**changes: Any) -> DatasetManifest:
    """A classification of 2 × 3 numbers, all examples in one chunk."""
    usual = {
        "dataset_id": "d" * 32,
        "task": Task.CLASSIFICATION,
        "input_shape": (2, 3),
        "input_dtype": InputType.FLOAT32,
        "classes": 5,
        "examples": 10,
        "chunk_examples": 10,
        "chunk_ciphertext_bytes": 1000,
        "chunk_sha256": ("0" * 64,),
    }
    return DatasetManifest.model_validate(usual | changes)


def job_spec(
    *,
    parameters: int = 10,
    dataset: DatasetManifest | None = None,
    exchange: dict[str, Any] | None = None,
    **changes: Any,
) -> JobSpec:
    """A job of two trainers and three exchanges, unpaced; `exchange` changes its terms."""
    usual = {
        "job": JOB,
        "dataset": dataset or dataset_manifest(),
        "builder_sha256": "b" * 64,
        "envelope": {"max_parameters": parameters},
        "exchange": {"parameters": parameters, "trainers": 2, "exchanges": 3, "unpaced": True}
        | (exchange or {}),
        "seed": 1,
    }
    return JobSpec.model_validate(usual | changes)


def builder_manifest(**changes: Any) -> BuilderManifest:
    """Of a builder for the digits."""
    usual = {
        "name": "tiny",
        "version": "1.0",
        "tasks": ["classification"],
        "envelope": {"max_parameters": 3000, "max_graph_bytes": 65_536, "build_seconds": 1.5},
    }
    return BuilderManifest.model_validate(usual | changes)


def launch_spec(spec: JobSpec, role: Role, gateway: GatewayChannel, **changes: Any) -> LaunchSpec:
    """What a launcher gives to an enclave; its quoting service is at hand already unless told otherwise."""
    usual = {
        "role": role,
        "job": spec.job,
        "gateway": gateway,
        "platform": SoftwarePlatformSpec(socket="unused"),
        "spec": spec,
    }
    return LaunchSpec.model_validate(usual | changes)
