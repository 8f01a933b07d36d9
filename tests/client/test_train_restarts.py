"""`chiron train` between verifying and granting, while the gateway or its enclave is restarted."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chiron.cli.train import GRANT_ATTEMPTS, _entrust
from chiron.client.client import Client
from chiron.client.errors import GatewayError, GatewayUnreachable
from chiron.wire.jobs import Job, JobState


@dataclass
class RestartingGateway:
    """A connection whose grants meet these errors in turn; each process behind it has evidence of its own."""

    errors: list[GatewayError | None]
    granted: list[int] = field(default_factory=list)
    """Which evidence each grant was sealed to."""
    verified: int = 0

    def send_grant(self, verified: Any, **_: Any) -> None:
        self.granted.append(verified.number)
        error = self.errors.pop(0)
        if error is not None:
            raise error

    def verify_job(self, _: Job) -> Any:
        self.verified += 1
        return SimpleNamespace(number=self.verified, steps=(), quote=SimpleNamespace(measurement="4f" * 32))

    def watch(self, _: Job) -> Iterator[Any]:
        yield SimpleNamespace(state=JobState.AWAITING_GRANT)


def entrust(gateway: RestartingGateway) -> Any:
    job = cast("Job", SimpleNamespace())
    nothing: Any = None
    return _entrust(cast("Client", gateway), job, cast("Any", SimpleNamespace(number=0)), nothing, nothing)


def refused(code: str) -> GatewayError:
    return GatewayError(code, 409, "")


def test_a_restarted_enclave_is_verified_before_it_is_granted_anything() -> None:
    gateway = RestartingGateway([GatewayUnreachable("x"), refused("enclave-gone"), None])
    assert entrust(gateway).number == 2
    assert gateway.granted == [0, 1, 2]


def test_a_grant_whose_answer_was_lost_is_not_given_twice() -> None:
    gateway = RestartingGateway([GatewayUnreachable("x"), refused("grant-already-given")])
    assert entrust(gateway).number == 1


@pytest.mark.parametrize("code", ["grant-already-given", "grant-spec-mismatch", "job-ended"])
def test_a_refusal_is_not_repeated(code: str) -> None:
    gateway = RestartingGateway([refused(code)])
    with pytest.raises(GatewayError) as raised:
        entrust(gateway)
    assert raised.value.code == code
    assert gateway.granted == [0]


def test_it_gives_up_in_the_end() -> None:
    gateway = RestartingGateway([GatewayUnreachable("x") for _ in range(GRANT_ATTEMPTS)])
    with pytest.raises(GatewayUnreachable):
        entrust(gateway)
    assert len(gateway.granted) == GRANT_ATTEMPTS
