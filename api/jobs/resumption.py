"""Whether a job that an earlier gateway process left goes on, and for how long. Pure."""

from datetime import UTC, datetime

from chiron.api.settings import Settings
from chiron.wire.jobs import PublicFailure


def remaining_s(created_at: str, at: datetime, job_s: float) -> float:
    """Seconds that a job of this age still has.

    The wall clock is asked only here, between two processes: within one, deadlines are counted by a clock
    that only goes forward. A clock that was set back gives a job no more than it had at its beginning.
    """
    age = (at - datetime.fromisoformat(created_at).astimezone(UTC)).total_seconds()
    return job_s - max(0.0, age)


def why_over(remaining: float, launches: int, settings: Settings) -> PublicFailure | None:
    """The failure that ends a left-over job, or None if its enclaves are launched again.

    `launches` counts how often its parameter server was.
    """
    if remaining <= 0:
        return PublicFailure.DEADLINE_EXCEEDED
    if launches >= settings.limits.launches:
        return PublicFailure.ENCLAVE_EXITED
    return None
