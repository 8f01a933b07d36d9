"""Every URL path that one party serves and another asks for. Doors route by them, clients fill them in."""

import re
from urllib.parse import quote

_VARIABLE = re.compile(r"\{(\w+):((?:[^{}]|\{[^{}]*\})*)\}")


class Path(str):
    """A path whose variables name the pattern that the router checks: what does not match is not found."""

    __slots__ = ()

    @property
    def variables(self) -> list[tuple[str, str]]:
        """Name and pattern of each variable, in order."""
        return _VARIABLE.findall(self)

    @property
    def template(self) -> str:
        """The path with its variables' names only."""
        return _VARIABLE.sub(r"{\1}", self)

    def of(self, *values: object) -> str:
        """The path with a value for each variable. None can leave its place, whatever it holds."""
        given = iter(values)
        return _VARIABLE.sub(lambda _: quote(str(next(given)), safe=""), self)


_ID = "{id:[0-9a-f]{32}}"
_SHA256 = "{sha256:[0-9a-f]{64}}"
_CHUNK = r"{number:0|[1-9]\d{0,6}}"
_OBJECT = "{name:[a-z][a-z0-9-]{0,63}}"

# The gateway's public door.
HEALTH = Path("/healthz")
METRICS = Path("/metrics")
OPENAPI = Path("/openapi.json")
IMAGES = Path("/v1/images")
MACHINE = Path("/v1/machine")
BUILDERS = Path("/v1/builders")
BUILDER = Path(f"{BUILDERS}/{_SHA256}")
DATASETS = Path("/v1/datasets")
DATASET = Path(f"{DATASETS}/{_ID}")
DATASET_CHUNK = Path(f"{DATASET}/chunks/{_CHUNK}")
DATASET_COMPLETE = Path(f"{DATASET}/complete")
JOBS = Path("/v1/jobs")
JOB = Path(f"{JOBS}/{_ID}")
JOB_CANCEL = Path(f"{JOB}/cancel")
JOB_EVENTS = Path(f"{JOB}/events")
JOB_OBJECTS = Path(f"{JOB}/objects")
JOB_OBJECT = Path(f"{JOB_OBJECTS}/{_OBJECT}")
JOB_OBSERVATIONS = Path(f"{JOB}/observations")
JOB_EVIDENCE = Path(f"{JOB}/evidence")
"""Evidence, openings and queries are also served by a predictor's own door."""
JOB_GRANT = Path(f"{JOB}/grant")
JOB_OPENING = Path(f"{JOB}/opening")
JOB_QUERIES = Path(f"{JOB}/queries")
JOB_GUESTS = Path(f"{JOB}/guests")
JOB_GUEST = Path(f"{JOB_GUESTS}/{{key_id:[0-9a-f]{{16}}}}")
JOB_PREDICTOR = Path(f"{JOB}/predictor")
JOB_PREDICTOR_OF_IMAGE = Path(f"{JOB_PREDICTOR}/{_SHA256}")
JOB_UPGRADE = Path(f"{JOB}/upgrade")
JOB_UPGRADE_OPENING = Path(f"{JOB_UPGRADE}/opening")
JOB_UPGRADE_ORDER = Path(f"{JOB_UPGRADE}/order")

# The gateway's door for enclaves.
ENCLAVE_READY = Path("/enclave/v1/ready")
ENCLAVE_MACHINE = Path("/enclave/v1/machine")
ENCLAVE_PARAMETER_SERVER = Path("/enclave/v1/peers/parameter-server")
ENCLAVE_SHARD = Path(r"/enclave/v1/peers/shards/{index:[1-9]\d?}")
ENCLAVE_MAILBOX = Path("/enclave/v1/mailbox")
ENCLAVE_MAIL = Path(f"{ENCLAVE_MAILBOX}/{_ID}")
ENCLAVE_BUILDER = Path(f"/enclave/v1/builders/{_SHA256}")
ENCLAVE_DATASET = Path(f"/enclave/v1/datasets/{_ID}")
ENCLAVE_DATASET_CHUNK = Path(f"{ENCLAVE_DATASET}/chunks/{_CHUNK}")
ENCLAVE_OBJECT = Path(f"/enclave/v1/objects/{_OBJECT}")
ENCLAVE_PROGRESS = Path("/enclave/v1/progress")

# The parameter server's door for trainers and shards.
ENROL = Path("/v1/enrol")
ENROL_CHALLENGE = Path("/v1/enrol/challenge")
ENROL_SHARD = Path("/v1/enrol/shard")
TICKET = Path("/v1/ticket")
ENDED = Path("/v1/ended")
STATE = Path("/v1/state")
EXCHANGE_HELLO = Path("/v1/exchange/hello")
EXCHANGE_PUBLISH = Path("/v1/exchange/publish")
EXCHANGE_START = Path("/v1/exchange/start")
EXCHANGE_PUSH = Path("/v1/exchange/push")
EXCHANGE_SLOT = Path("/v1/exchange/slot")
