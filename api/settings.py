"""Everything the gateway can be told, and every limit it keeps."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from chiron.wire.contract import MAX_COMPONENT_BYTES
from chiron.wire.networks import Network

MAX_UNIX_SOCKET_PATH = 107
"""`sun_path` of Linux holds 108 bytes with its final zero."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Frozen):
    """What hostile or mistaken callers can cost us, at most. Bytes unless the name says otherwise."""

    json_bytes: int = Field(default=64 * 1024, ge=1024)
    """Body of a request that has no bound of its own."""
    manifest_bytes: int = Field(default=16 * 2**20, ge=1024)
    """A dataset's manifest: 67 bytes a chunk."""
    component_bytes: int = Field(default=MAX_COMPONENT_BYTES, ge=1024, le=MAX_COMPONENT_BYTES)
    builder_manifest_bytes: int = Field(default=64 * 1024, ge=1024)
    grant_bytes: int = Field(default=256 * 1024, ge=1024)
    """A sealed grant, decoded."""
    message_bytes: int = Field(default=64 * 2**20, ge=1024)
    """A sealed query or answer, decoded, whatever the job's spec would allow."""
    evidence_bytes: int = Field(default=2 * 2**20, ge=1024)
    listed: int = Field(default=1000, ge=1)
    """Items of one page of a list, at most."""
    trainers: int = Field(default=16, ge=1, le=1024)
    """Trainers of one job."""
    shards: int = Field(default=16, ge=1, le=64)
    """Servers that hold the vector of one job."""
    restarts: int = Field(default=3, ge=0)
    """Crashed enclaves of one job that are launched again; a job that loses more fails."""
    launches: int = Field(default=10, ge=1)
    """Times that a job's parameter server is launched in all: once, and after each crash of either side."""
    running_jobs: int = Field(default=8, ge=1)
    """Jobs of all tenants that have processes."""
    running_jobs_per_tenant: int = Field(default=4, ge=1)
    predictors: int = Field(default=16, ge=1)
    """Predictors of all tenants."""
    predictors_per_tenant: int = Field(default=4, ge=1)
    """A tenant's share of them. It may have more while there is room, and makes room for others' shares."""
    guests: int = Field(default=256, ge=0)
    """Guests' keys of one job that hold at a time."""
    mailbox_messages: int = Field(default=64, ge=1)
    """Messages that wait for one enclave; half of them may be others' than its owner's."""
    observed_messages: int = Field(default=100_000, ge=1)
    """Relayed messages of one job that its observations tell of: the latest."""
    event_streams: int = Field(default=256, ge=1)
    """Event streams open at a time."""
    event_streams_per_tenant: int = Field(default=32, ge=1)
    """Its auditors may have half."""
    requests_per_s: float = Field(default=50, gt=0)
    """Requests of one API key in the long run."""
    requests_burst: int = Field(default=500, ge=1)
    """Requests of one API key at once."""
    tenant_requests_per_s: float = Field(default=200, gt=0)
    """Requests of all keys of one tenant, its guests' with them, in the long run."""
    tenant_requests_burst: int = Field(default=2000, ge=1)
    visitor_requests_per_s: float = Field(default=100, gt=0)
    """Of these, requests of its guests' and auditors' keys: the rest is its owner's, whatever they do."""
    visitor_requests_burst: int = Field(default=1000, ge=1)
    keyless_requests_per_s: float = Field(default=20, gt=0)
    """Requests from one address without a key that holds, in the long run."""
    keyless_requests_burst: int = Field(default=200, ge=1)
    memory_bytes: int = Field(default=2**30, ge=2**20)
    """Requests above 1 MiB that are under way, of all tenants: they arrive, or wait in mailboxes."""
    memory_bytes_per_tenant: int = Field(default=512 * 2**20, ge=2**20)
    """Of each; its guests and auditors may have half."""
    storage_bytes_per_tenant: int = Field(default=256 * 2**30, ge=1024)
    """Datasets, builders, and the specs of jobs."""
    connections: int = Field(default=1024, ge=1)
    """Of the public API, in all."""
    connections_per_address: int = Field(default=256, ge=1)
    """Of the public API, from one address that is no trusted proxy's (`Settings.trusted_proxies`)."""


class Timing(_Frozen):
    """How long things may take, in seconds."""

    launch_s: float = Field(default=60, gt=0)
    """A launcher, to start one enclave."""
    job_s: float = Field(default=24 * 3600, gt=0)
    """A job from its creation to its end."""
    long_poll_s: float = Field(default=30, gt=0)
    """The longest `wait` that an enclave may ask for."""
    relay_s: float = Field(default=90, gt=0)
    """An owner's message, until the enclave has answered it."""
    predictor_idle_s: float = Field(default=15 * 60, gt=0)
    """A predictor that nobody has asked for so long is ended; it starts again when it is asked for."""
    event_keepalive_s: float = Field(default=15, gt=0)
    header_s: float = Field(default=15, gt=0)
    """From a connection's beginning to its first request's whole header."""
    idle_s: float = Field(default=75, gt=0)
    """A connection between two requests, or whose peer reads nothing of its answer."""
    body_s: float = Field(default=300, gt=0)
    """Reading one request's body."""
    enclave_stop_s: float = Field(default=5, ge=0)
    """Grace between asking an enclave to stop and ending it."""
    last_trainer_s: float = Field(default=30, gt=0)
    """The parameter server must end the job in this time after its last trainer left in order."""
    shutdown_s: float = Field(default=10, gt=0)
    """Open requests at shutdown."""


class Settings(_Frozen):
    """One gateway."""

    state_dir: Path
    """Database, blobs and the enclaves' socket; made with mode 0700."""
    host: str = "127.0.0.1"
    port: int = Field(default=8799, ge=0, le=65_535)
    """0 takes a free one."""
    database_url: str | None = None
    """SQLAlchemy's URL of an async driver; None is SQLite in `state_dir`."""
    enclave_socket: Path | None = None
    """Unix socket of the enclave-facing API; None is `gateway.sock` in `state_dir`."""
    enclave_host: str | None = None
    """Serve the enclave-facing API over TCP too, for launchers on other machines."""
    enclave_port: int = Field(default=0, ge=0, le=65_535)
    metrics_host: str | None = None
    """Serve `/metrics` at an address of its own, without any key; None does not serve it."""
    metrics_port: int = Field(default=9464, ge=0, le=65_535)
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of proxies whose X-Forwarded-For is believed; of everybody else's nothing is."""
    operator_may_cancel: bool = False
    """Whether an operator's key ends tenants' jobs and predictors. Each time is logged."""
    first_keys: bool = True
    """Whether a gateway without any API key makes two, to be shown once."""
    limits: Limits = Limits()
    timing: Timing = Timing()

    @model_validator(mode="after")
    def _socket_path_fits(self) -> Self:
        if len(str(self.socket_path).encode()) > MAX_UNIX_SOCKET_PATH:
            raise ValueError(f"enclave_socket: a Unix socket's path has at most {MAX_UNIX_SOCKET_PATH} bytes")
        return self

    @property
    def socket_path(self) -> Path:
        """Where the enclave-facing API listens."""
        return self.enclave_socket or self.state_dir / "gateway.sock"

    @property
    def sqlalchemy_url(self) -> str:
        """The database."""
        return self.database_url or f"sqlite+aiosqlite:///{self.state_dir / 'gateway.sqlite3'}"

    @property
    def blob_dir(self) -> Path:
        """Ciphertext and builders."""
        return self.state_dir / "blobs"
