"""How a refusal travels (RFC 9457), and the codes that another side acts on.

All other codes are for people, and stand where they are raised.
"""

from typing import Final

from pydantic import Field

from chiron.wire.encoding import WireModel

PROBLEM_CONTENT_TYPE = "application/problem+json"


class Problem(WireModel):
    """application/problem+json with a stable `code`."""

    type: str = "about:blank"
    title: str = Field(max_length=200)
    status: int = Field(ge=400, le=599)
    detail: str = Field(default="", max_length=2000)
    code: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    missing: tuple[int, ...] | None = Field(default=None, max_length=1000)
    """`dataset-incomplete`: numbers of the first chunks that were not received."""


# The gateway says, its clients and enclaves act.
GATEWAY_UNREACHABLE: Final = "gateway-unreachable"
"""Nobody answered: said by whoever asked."""
ENCLAVE_GONE: Final = "enclave-gone"
"""The enclave ended before it answered. Another may be launched in its place."""
ENCLAVE_NOT_RUNNING: Final = "enclave-not-running"
"""The job has no such enclave now. It may have soon."""
ENCLAVE_TIMEOUT: Final = "enclave-timeout"
"""The enclave did not answer in time."""
OBJECT_UNKNOWN: Final = "object-unknown"
"""The job has no object of this name: an enclave begins afresh."""
TOO_MANY_REQUESTS: Final = "too-many-requests"
"""The API key, or its tenant, asks more often than it may. Nothing was done: ask again later."""
PROGRESS_REFUSED: Final = "progress-refused"
"""The job is further on already. An enclave that asks for a grant then was denied its checkpoint."""

# The parameter server says, the data owner's client acts.
GRANT_ALREADY_GIVEN: Final = "grant-already-given"
"""An earlier attempt to send the grant arrived."""
GRANT_UNREADABLE: Final = "grant-unreadable"
"""The grant is sealed to another key: perhaps that of a parameter server that has ended since."""

OPENING_UNREADABLE: Final = "opening-unreadable"
"""The opening is sealed to another key: perhaps that of a predictor that has ended since."""
OPENING_NOT_NEWER: Final = "opening-not-newer"
"""One with this number or a later one was taken, perhaps of another process of the same owner's."""

MACHINE_NOT_ALLOWED: Final = "machine-not-allowed"
"""The grant names a machine that the operator does not let owners keep models for."""
SEALED_ELSEWHERE: Final = "sealed-elsewhere"
"""What the host keeps is sealed to other code, or to other machines than the one that the enclave runs on."""

OPENING_SHARE_WRONG: Final = "opening-share-wrong"
"""What the host keeps as the model does not open with the owner's share."""

GRANT_EXPIRED: Final = "grant-expired"
"""The grant's time is over: sending it again does not help."""

# The parameter server says, its trainers act.
ANSWER_LOST: Final = "answer-lost"
"""The change was merged, and its answer not kept over a restart: start from where the server is."""
TRIAL_OVER: Final = "trial-over"
"""A later trial is under way: start the next one."""
CHECKPOINT_ROLLED_BACK: Final = "checkpoint-rolled-back"
"""The host served an old checkpoint: the job must end."""
