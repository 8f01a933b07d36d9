"""Errors of the control plane; every one becomes a problem+json answer with its `code`:

ApiError                            internal                500
├── RequestInvalid                  invalid-request         400
├── RequestTimeout                  request-timeout         408
├── BodyTooLarge                    body-too-large          413
├── Unauthenticated                 unauthenticated         401
├── Forbidden                       forbidden               403
├── NotFound                                                404
│   ├── RouteUnknown                route-unknown
│   ├── BuilderUnknown              builder-unknown
│   ├── DatasetUnknown              dataset-unknown
│   ├── ChunkUnknown                chunk-unknown
│   ├── JobUnknown                  job-unknown
│   ├── ObjectUnknown               object-unknown
│   ├── ImageUnknown                image-unknown
│   ├── KeyUnknown                  key-unknown
│   └── MessageUnknown              message-unknown
├── MethodNotAllowed                method-not-allowed      405
├── Conflict                                                409
│   ├── BuilderExists               builder-exists
│   ├── KeyExists                   key-exists
│   ├── DatasetExists               dataset-exists
│   ├── DatasetIncomplete           dataset-incomplete
│   ├── JobEnded                    job-ended
│   ├── JobNotSucceeded             job-not-succeeded
│   ├── DatasetInUse                dataset-in-use
│   ├── JobInUse                    job-in-use
│   ├── BuilderInUse                builder-in-use
│   ├── EnclaveNotRunning           enclave-not-running
│   ├── UpgradeRunning              upgrade-running
│   └── ProgressRefused             progress-refused
├── ContentRefused                                          422
│   ├── ChunkDigestMismatch         chunk-digest-mismatch
│   ├── JobDoesNotFit               job-does-not-fit
│   ├── ObjectRefused               object-refused
│   └── RefusedElsewhere
│       ├── BuilderRefused          (the sandbox's own code)
│       └── EnclaveRefused          (the enclave's own code)
├── StorageFull                     storage-full            507
├── Overloaded                      overloaded              429
│   ├── TooManyRequests             too-many-requests
│   ├── TooManyStreams              too-many-streams
│   ├── TooManyBytes                too-many-bytes
│   ├── MailboxFull                 mailbox-full
│   ├── TooManyGuests               too-many-guests
│   └── TooManyJobs                 too-many-jobs
├── ShuttingDown                    shutting-down           503
├── EnclaveTimeout                  enclave-timeout         504
├── EnclaveGone                     enclave-gone            504
├── StorageError                    storage-failed          500
│   ├── StorageDamaged              storage-damaged
│   ├── StorageInUse                storage-in-use
│   └── StorageVersion              storage-version
└── LauncherError                   launcher-failed         500
    ├── BubblewrapMissing           bubblewrap-missing
    ├── ConfinementUnavailable      confinement-unavailable
    ├── TeeMissing                  tee-missing
    └── EnclaveNotStarted           enclave-not-started
"""

from chiron.wire import codes
from chiron.wire.errors import ChironError


class ApiError(ChironError):
    """Base of all. The message is shown to the caller: no secret, no internals."""

    code: str = "internal"
    status: int = 500

    @property
    def title(self) -> str:
        """The code in words."""
        return self.code.replace("-", " ").capitalize()


class RequestInvalid(ApiError):
    """The request does not follow its schema; the message names the field."""

    code = "invalid-request"
    status = 400


class RequestTimeout(ApiError):
    """The body did not arrive in time."""

    code = "request-timeout"
    status = 408


class BodyTooLarge(ApiError):
    """The body exceeds the route's bound."""

    code = "body-too-large"
    status = 413


class Unauthenticated(ApiError):
    """No key, or not one of ours."""

    code = "unauthenticated"
    status = 401


class Forbidden(ApiError):
    """The key's role may not do this."""

    code = "forbidden"
    status = 403


class NotFound(ApiError):
    """There is none, or none that this caller may see."""

    status = 404


class RouteUnknown(NotFound):
    """No such path."""

    code = "route-unknown"


class BuilderUnknown(NotFound):
    """No builder of this digest."""

    code = "builder-unknown"


class DatasetUnknown(NotFound):
    """The tenant has no such dataset."""

    code = "dataset-unknown"


class ChunkUnknown(NotFound):
    """The manifest has no such chunk, or it was not received."""

    code = "chunk-unknown"


class JobUnknown(NotFound):
    """The tenant has no such job."""

    code = "job-unknown"


class ObjectUnknown(NotFound):
    """The job has no such object."""

    code = codes.OBJECT_UNKNOWN


class ImageUnknown(NotFound):
    """This gateway has no enclave image of that measurement."""

    code = "image-unknown"


class KeyUnknown(NotFound):
    """No API key of this id, or it does not hold any more."""

    code = "key-unknown"


class MessageUnknown(NotFound):
    """No message of this id waits for this enclave's answer."""

    code = "message-unknown"


class MethodNotAllowed(ApiError):
    """The path has other methods."""

    code = "method-not-allowed"
    status = 405


class Conflict(ApiError):
    """The request does not go with what is stored."""

    status = 409


class BuilderExists(Conflict):
    """The same component was uploaded with another manifest, or by another operator."""

    code = "builder-exists"


class KeyExists(Conflict):
    """There is an API key of this id already."""

    code = "key-exists"


class DatasetExists(Conflict):
    """The same dataset id was announced with another manifest."""

    code = "dataset-exists"


class DatasetIncomplete(Conflict):
    """Chunks are missing; `missing` says which."""

    code = "dataset-incomplete"

    def __init__(self, detail: str, missing: tuple[int, ...] = ()) -> None:
        super().__init__(detail)
        self.missing = missing


class JobEnded(Conflict):
    """The job is over."""

    code = "job-ended"


class JobNotSucceeded(Conflict):
    """A predictor needs a job that succeeded."""

    code = "job-not-succeeded"


class EnclaveNotRunning(Conflict):
    """The job has no such enclave now."""

    code = codes.ENCLAVE_NOT_RUNNING


class DatasetInUse(Conflict):
    """A job that has not ended reads it; the message says which."""

    code = "dataset-in-use"


class JobInUse(Conflict):
    """Its enclaves run; the message says what to end first."""

    code = "job-in-use"


class BuilderInUse(Conflict):
    """A job that has not ended runs it."""

    code = "builder-in-use"


class UpgradeRunning(Conflict):
    """One model moves once at a time."""

    code = "upgrade-running"


class ProgressRefused(Conflict):
    """States only go forward."""

    code = codes.PROGRESS_REFUSED


class ContentRefused(ApiError):
    """Well-formed, and refused for what it says."""

    status = 422


class ChunkDigestMismatch(ContentRefused):
    """The chunk is not the one in the manifest."""

    code = "chunk-digest-mismatch"


class JobDoesNotFit(ContentRefused):
    """Dataset, builder and request do not fit together."""

    code = "job-does-not-fit"


class ObjectRefused(ContentRefused):
    """A job of this spec makes no such object, or not one so large."""

    code = "object-refused"


class RefusedElsewhere(ContentRefused):
    """Another part refused it, and `code` is that part's."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class BuilderRefused(RefusedElsewhere):
    """The sandbox's inspection: the component is no builder."""


class EnclaveRefused(RefusedElsewhere):
    """The enclave that the message was for."""


class StorageFull(ApiError):
    """The tenant stores as much as it may."""

    code = "storage-full"
    status = 507


class Overloaded(ApiError):
    """Try again later; `retry_after_s` says when."""

    code = "overloaded"
    status = 429

    def __init__(self, detail: str, *, retry_after_s: float = 5) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class TooManyRequests(Overloaded):
    """The API key, its tenant, or an address without a key asks more often than it may."""

    code = codes.TOO_MANY_REQUESTS


class TooManyStreams(Overloaded):
    """The gateway, or the tenant, has as many event streams open as it may."""

    code = "too-many-streams"


class TooManyBytes(Overloaded):
    """The gateway, or the tenant, has as many bytes of requests under way as it may."""

    code = "too-many-bytes"


class MailboxFull(Overloaded):
    """Too many messages wait for this enclave."""

    code = "mailbox-full"


class TooManyGuests(Overloaded):
    """As many guests' keys of a job hold as may."""

    code = "too-many-guests"


class TooManyJobs(Overloaded):
    """The gateway runs as many jobs as it may."""

    code = "too-many-jobs"


class ShuttingDown(ApiError):
    """The gateway is stopping."""

    code = "shutting-down"
    status = 503


class EnclaveTimeout(ApiError):
    """The enclave did not answer in time."""

    code = codes.ENCLAVE_TIMEOUT
    status = 504


class EnclaveGone(ApiError):
    """The enclave ended before it answered."""

    code = codes.ENCLAVE_GONE
    status = 504


class StorageError(ApiError):
    """The gateway's storage failed."""

    code = "storage-failed"


class StorageDamaged(StorageError):
    """A stored blob is not what was written."""

    code = "storage-damaged"


class StorageInUse(StorageError):
    """Another gateway runs in this state directory."""

    code = "storage-in-use"


class StorageVersion(StorageError):
    """The database was made by another version of the gateway."""

    code = "storage-version"


class LauncherError(ApiError):
    """An enclave, or anything that enclaves need, could not be started here."""

    code = "launcher-failed"


class BubblewrapMissing(LauncherError):
    """Neither the package's nor the system's bwrap is there."""

    code = "bubblewrap-missing"


class ConfinementUnavailable(LauncherError):
    """Namespaces could not be made; without them no enclave is started."""

    code = "confinement-unavailable"


class TeeMissing(LauncherError):
    """What is stored is sealed under secrets of a development TEE that is not there any more."""

    code = "tee-missing"


class EnclaveNotStarted(LauncherError):
    """Nothing of it is left."""

    code = "enclave-not-started"
