"""What the operator's launcher tells an enclave at start: hostile input, nothing in it secret or trusted."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, TypeAdapter, model_validator

from chiron.wire.attestation import Nonce, Role
from chiron.wire.encoding import Digest, Identifier, WireModel
from chiron.wire.jobs import JobSpec, query_rows_that_fit

LAUNCH_VARIABLE = "CHIRON_LAUNCH"
"""Environment variable that holds the `LaunchSpec` as JSON, or `@` and the path of a file that does.

Linux bounds a variable at 128 KiB; the spec of a job over a large dataset is longer.
"""
MAX_LAUNCH_CHARACTERS = 128 * 2**20
"""A longer file is not read to its end, and so not a launch spec."""


class GatewayChannel(WireModel):
    """Where the gateway's enclave-facing API is reached: a Unix socket, or a URL where there is none."""

    socket: str | None = Field(default=None, max_length=100)
    url: str = Field(default="http://gateway", max_length=2000)
    token: str = Field(min_length=1, max_length=200)
    """Names this launch to the gateway; it protects the operator, not the owner."""


class SoftwarePlatformSpec(WireModel):
    """The development TEE: a socket of the host's quoting service."""

    kind: Literal["software"] = "software"
    socket: str = Field(max_length=100)


class SgxPlatformSpec(WireModel):
    """SGX under Occlum: quotes and keys come from /dev/sgx."""

    kind: Literal["sgx"] = "sgx"
    pccs_url: str = Field(default="http://127.0.0.1:8081", pattern=r"^https?://", max_length=2000)
    """Where the host's PCCS answers: collateral for our quotes, which whoever verifies them checks."""


PlatformSpec = Annotated[SoftwarePlatformSpec | SgxPlatformSpec, Field(discriminator="kind")]


class LaunchSpec(WireModel):
    """Start this role of this job."""

    version: Literal[1] = 1
    role: Role
    job: Identifier
    index: int = Field(default=0, ge=0, le=1023)
    gateway: GatewayChannel
    platform: PlatformSpec
    listen_host: str = Field(default="127.0.0.1", max_length=255)
    listen_port: int = Field(default=0, ge=0, le=65_535)
    """Parameter server: 0 is any port. Predictor: where owners reach it directly (RA-TLS); 0 is nowhere."""
    taking: Literal[True] | None = None
    """Predictor: begin without a model, and wait for one that code of another measurement gives away."""
    machines: tuple[Digest, ...] | None = Field(default=None, max_length=1024)
    """Parameter server, and a predictor that takes a model over: SHA-256 of the keys of machines that this
    operator lets owners keep models for."""
    spec: JobSpec

    @model_validator(mode="after")
    def _queries_fit(self) -> Self:
        if self.role is Role.MACHINE:
            raise ValueError("an enclave that tells its machine's key has no job")
        if self.spec.query_rows > query_rows_that_fit(self.spec.dataset):
            raise ValueError("the job's queries or answers would not fit an enclave: lower query_rows")
        return self


class MachineLaunch(WireModel):
    """Tell this machine's key, over this nonce, and end. It is of no job."""

    version: Literal[1] = 1
    role: Literal[Role.MACHINE] = Role.MACHINE
    nonce: Nonce
    gateway: GatewayChannel
    platform: PlatformSpec


Launch: TypeAlias = LaunchSpec | MachineLaunch
LAUNCH: TypeAdapter[Launch] = TypeAdapter(Annotated[Launch, Field(union_mode="left_to_right")])
"""Reads either."""
