"""Errors of an enclave's roles.

EnclaveError                    has a stable code and the public failure it is reported as
├── LaunchInvalid               the host's launch specification is not one
├── GatewayUnreachable          the channel to the gateway stayed broken past its deadline
├── GatewayRefused              the gateway answered a problem
├── InputCorrupted              the host served other bytes than the owner or operator uploaded
├── GrantRefused                a grant that does not belong to this enclave's job
├── EnrolmentRefused            a peer that is not a trainer of this job on our measurement
├── PeerRefused                 the parameter server's evidence does not hold
├── PeerLost                    the parameter server went away, or broke the protocol
├── PlatformFailed              the TEE under us gave no quote or key
├── UpgradeRefused              an upgrade that the model's owner did not order, or to another enclave
├── ModelUnusable               the sealed model cannot be opened here
└── QueryRefused                a query that this predictor cannot read
"""

from chiron.wire.errors import ChironError
from chiron.wire.jobs import PublicFailure


class EnclaveError(ChironError):
    """Base of all: `code` is stable; `public` is all that the operator's side is told."""

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


class QueryRefused(EnclaveError):
    """The query cannot be read with this predictor's key."""
