"""Every error of this room, in one tree. Each has a stable `code`; no message holds a secret.

ChironError
├── EnclaveError                a role ends; `public` is all that the operator's side is told
│   ├── LaunchInvalid           the host's launch specification is not one
│   ├── GatewayUnreachable      the channel to the gateway stayed broken past its deadline
│   ├── GatewayRefused          the gateway answered a problem
│   ├── InputCorrupted          the host served other bytes than the owner or operator uploaded
│   ├── GrantRefused            a grant that does not belong to this enclave's job
│   ├── EnrolmentRefused        a peer that is not a trainer of this job on our measurement
│   ├── PeerRefused             the parameter server's evidence does not hold
│   ├── PeerLost                the parameter server went away, or broke the protocol
│   ├── PlatformFailed          the TEE under us gave no quote or key
│   ├── UpgradeRefused          an upgrade that the model's owner did not order, or to another enclave
│   ├── ModelUnusable           the sealed model cannot be opened here
│   ├── PredictorLocked         a predictor that its owner has not opened, or not any more
│   ├── OpeningRefused          an opening that opens nothing here
│   └── QueryRefused            a query that this predictor cannot read
├── AttestationError
│   ├── EvidenceRefused         evidence did not pass a numbered verification step
│   ├── EvidenceMissing         a certificate carries no evidence that could be verified
│   ├── QuoteMalformed          the bytes are no quote
│   ├── PolicyInvalid           a policy file that cannot be used
│   └── PlatformUnavailable     no quote or key can be had here
├── LogRefused                  what a transparency log says does not hold
├── SealingError
│   ├── OpenFailed              wrong key, label or context, or altered ciphertext (which, is not told)
│   │   └── SealedElsewhere     this code on this machine has no part in its key
│   ├── PaddingInvalid          the padded plaintext is not one
│   └── TooLarge                the content does not fit its public size
├── TensorsMalformed            bytes or arrays are not of the declared form
├── DatasetError
│   ├── ExamplesInvalid         rows that do not fit the dataset's declared form
│   ├── ChunkRefused            a ciphertext that is not the one the owner made for this place
│   │   ├── ChunkSizeMismatch   not of the public size
│   │   ├── ChunkOutOfPlace     another chunk of this dataset: moved or repeated
│   │   ├── ChunkAltered        no chunk of this dataset: altered or foreign
│   │   ├── ChunkUnopenable     listed here, but sealed with another key or for another dataset or place
│   │   └── DatasetTruncated    the manifest ends before or after the dataset did
│   └── ChunkMalformed          it opens, but its content is not of the declared form
├── StatementInvalid            counts that this predictor did not sign
└── QueryError
    ├── RowsInvalid             rows that do not fit the job's inputs
    ├── QueryMalformed          a plaintext that is no query of this job
    ├── QueryUnreadable         not sealed to this predictor for this job
    ├── QueryUnauthorised       not signed by the model's owner for this predictor
    ├── QueryReplayed           signed by the owner, and answered before
    ├── AnswerMalformed         a plaintext that is no answer of this job
    └── AnswerUnreadable        not sealed to this query's one-time key

`chiron.runtime.training.errors` has the one error that only a job's owner is told. A dataset's errors depend
on ciphertext and public facts only; `ExamplesInvalid` is the owner's own mistake.
"""

from typing import TYPE_CHECKING

from chiron.wire import codes
from chiron.wire.errors import ChironError
from chiron.wire.jobs import PublicFailure

if TYPE_CHECKING:
    from chiron.runtime.attestation.steps import StepResult


class EnclaveError(ChironError):
    """Base of the errors that end a role; `public` is all that the operator's side is told."""

    public = PublicFailure.INTERNAL

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


class LaunchInvalid(EnclaveError):
    """The launch specification is missing or malformed."""

    public = PublicFailure.LAUNCH_FAILED


class GatewayUnreachable(EnclaveError):
    """The gateway could not be reached before the deadline."""


class GatewayRefused(EnclaveError):
    """The gateway answered with a problem; `code` is the problem's."""


class InputCorrupted(EnclaveError):
    """Stored bytes do not have the digest they are named by."""

    public = PublicFailure.INPUT_CORRUPTED


class GrantRefused(EnclaveError):
    """The grant is unreadable or names another job, spec or dataset."""

    public = PublicFailure.GRANT_REFUSED


class EnrolmentRefused(EnclaveError):
    """A trainer's evidence, key or index was not acceptable."""

    public = PublicFailure.ATTESTATION_REFUSED


class PeerRefused(EnclaveError):
    """The parameter server that the gateway named is not one of our measurement and job."""

    public = PublicFailure.ATTESTATION_REFUSED


class PeerLost(EnclaveError):
    """The parameter server is gone, or does not keep to the exchange's protocol."""

    public = PublicFailure.ENCLAVE_EXITED


class PlatformFailed(EnclaveError):
    """No quote or sealing key can be had."""

    public = PublicFailure.LAUNCH_FAILED


class UpgradeRefused(EnclaveError):
    """The model is not handed over, or not taken."""

    public = PublicFailure.ATTESTATION_REFUSED


class ModelUnusable(EnclaveError):
    """The sealed model does not open, or belongs to another job."""

    public = PublicFailure.INPUT_CORRUPTED


class PredictorLocked(EnclaveError):
    """Nothing is answered but for evidence until the model's owner opens the predictor."""

    def __init__(self) -> None:
        super().__init__("predictor-locked", "the model's owner has to open this predictor")


class OpeningRefused(EnclaveError):
    """An opening that is not the model's owner's, or not for here and now. Nothing has changed by it."""


class QueryRefused(EnclaveError):
    """The query cannot be read with this predictor's key."""


class AttestationError(ChironError):
    """Base of attestation's errors."""

    code = "attestation-failed"


class EvidenceRefused(AttestationError):
    """`steps` holds the results so far; the last one is the step that refused."""

    def __init__(self, steps: "tuple[StepResult, ...]") -> None:
        refused = steps[-1]
        super().__init__(f"step {refused.step.number} ({refused.step.title}): {refused.detail}")
        self.steps = steps
        self.step = refused.step
        self.code = f"evidence-{refused.step.value}"


class EvidenceMissing(AttestationError):
    """There is nothing to verify: no extension, or not evidence of ours."""

    code = "evidence-missing"


class QuoteMalformed(AttestationError):
    """The bytes are not a quote. `chiron.runtime.attestation.verify` turns this into a refused step 1."""

    code = "quote-malformed"


class PolicyInvalid(AttestationError):
    """The policy file cannot be read, or says what no policy can mean."""

    code = "policy-invalid"


class PlatformUnavailable(AttestationError):
    """There is no TEE, or it did not answer."""

    code = "platform-unavailable"


class LogRefused(ChironError):
    """What the log says does not hold; the message says which part."""

    code = "log-refused"


class SealingError(ChironError):
    """Base of sealing's errors."""

    code = "sealing-failed"


class OpenFailed(SealingError):
    """The ciphertext does not open under this key, label and context."""

    code = "open-failed"


class SealedElsewhere(OpenFailed):
    """Sealed by other code, or on another machine, and not for this one. No share opens it here."""

    code = codes.SEALED_ELSEWHERE


class PaddingInvalid(SealingError):
    """The plaintext is not padded as `pad` pads."""

    code = "padding-invalid"


class TooLarge(SealingError):
    """The content exceeds the public size it must be padded to."""

    code = "content-too-large"


class TensorsMalformed(ChironError):
    """The bytes are not the canonical ones of the form; callers convert it to their own error."""

    code = "tensors-malformed"


class DatasetError(ChironError):
    """Base of the errors of encrypted datasets. Messages name places and sizes, never values."""

    code = "dataset-failed"


class ExamplesInvalid(DatasetError):
    """Inputs or targets whose shape, type or range is not what the dataset declares."""

    code = "examples-invalid"


class ChunkRefused(DatasetError):
    """The host served something other than what the owner uploaded."""

    code = "chunk-refused"


class ChunkSizeMismatch(ChunkRefused):
    """The ciphertext is longer or shorter than every chunk of this dataset is."""

    code = "chunk-size-mismatch"


class ChunkOutOfPlace(ChunkRefused):
    """The ciphertext is another chunk of this dataset."""

    code = "chunk-out-of-place"


class ChunkAltered(ChunkRefused):
    """The ciphertext is no chunk of this dataset."""

    code = "chunk-altered"


class ChunkUnopenable(ChunkRefused):
    """The manifest lists the ciphertext here, yet it was not sealed for this place under this key."""

    code = "chunk-unopenable"


class DatasetTruncated(ChunkRefused):
    """The chunk opens only as a last one where the manifest goes on, or the other way round."""

    code = "dataset-truncated"


class ChunkMalformed(DatasetError):
    """The plaintext is not the canonical form of this dataset's examples."""

    code = "chunk-malformed"


class StatementInvalid(ChironError):
    """A statement or settlement that is not this predictor's."""

    code = "statement-invalid"


class QueryError(ChironError):
    """Base of the errors of queries and answers."""

    code = "query-failed"


class RowsInvalid(QueryError):
    """Too many rows, or of another shape or type than the job's inputs."""

    code = "rows-invalid"


class QueryMalformed(QueryError):
    """The plaintext is not laid out as this job's queries are."""

    code = "query-malformed"


class QueryUnreadable(QueryError):
    """The ciphertext does not open with this predictor's key for this job."""

    code = "query-unreadable"


class QueryUnauthorised(QueryError):
    """No signature of the model's owner, over this query and for this predictor."""

    code = "query-unauthorised"


class QueryReplayed(QueryError):
    """A query whose request id this predictor has taken before."""

    code = "query-replayed"


class AnswerMalformed(QueryError):
    """The plaintext is not laid out as this job's answers are."""

    code = "answer-malformed"


class AnswerUnreadable(QueryError):
    """The ciphertext does not open with the query's one-time key."""

    code = "answer-unreadable"
