"""Training between verifying and granting, while the gateway or its enclave is restarted."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chiron import GatewayError, GatewayUnreachable, Granted, Job, JobState, Verified
from chiron.client.training import GRANT_ATTEMPTS, grant_stages


@dataclass
class RestartingGateway:
    """A connection whose grants meet these errors in turn; each process behind it has evidence of its own."""

    errors: list[GatewayError | None]
    granted: list[int] = field(default_factory=list)
    """Which evidence each grant was sealed to."""
    verified: int = 0

    async def send_grant(self, verified: Any, **_: Any) -> None:
        self.granted.append(verified.number)
        error = self.errors.pop(0)
        if error is not None:
            raise error

    async def verify_job(self, _: Job) -> Any:
        self.verified += 1
        return SimpleNamespace(number=self.verified)

    async def watch(self, _: Job) -> AsyncGenerator[Any]:
        yield SimpleNamespace(state=JobState.AWAITING_GRANT)


async def granted(gateway: RestartingGateway) -> list[tuple[type, int, bool]]:
    """The stages: what each is, of which evidence, and whether verified again."""
    nothing: Any = None
    job = cast("Job", SimpleNamespace())
    return [
        (type(stage), cast("Any", stage.evidence).number, getattr(stage, "again", False))
        async for stage in grant_stages(cast("Any", gateway), job, nothing)
    ]


def refused(code: str) -> GatewayError:
    return GatewayError(code, 409, "")


async def test_a_restarted_enclave_is_verified_before_it_is_granted_anything() -> None:
    gateway = RestartingGateway([GatewayUnreachable("x"), refused("enclave-gone"), None])
    assert await granted(gateway) == [
        (Verified, 1, False),
        (Verified, 2, True),
        (Verified, 3, True),
        (Granted, 3, False),
    ]
    assert gateway.granted == [1, 2, 3]


async def test_a_grant_whose_answer_was_lost_is_not_given_twice() -> None:
    gateway = RestartingGateway([GatewayUnreachable("x"), refused("grant-already-given")])
    assert (await granted(gateway))[-1] == (Granted, 2, False)
    assert gateway.granted == [1, 2]


@pytest.mark.parametrize("code", ["grant-already-given", "grant-spec-mismatch", "job-ended"])
async def test_a_refusal_is_not_repeated(code: str) -> None:
    gateway = RestartingGateway([refused(code)])
    with pytest.raises(GatewayError) as raised:
        await granted(gateway)
    assert raised.value.code == code
    assert gateway.granted == [1]


async def test_it_gives_up_in_the_end() -> None:
    gateway = RestartingGateway([GatewayUnreachable("x") for _ in range(GRANT_ATTEMPTS)])
    with pytest.raises(GatewayUnreachable):
        await granted(gateway)
    assert len(gateway.granted) == GRANT_ATTEMPTS
