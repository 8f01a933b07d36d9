"""An owner asks a predictor at its own door: the real role, a real model, RA-TLS, and no gateway."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from chiron import OwnerStore, attested_connector
from chiron.client.errors import EvidenceRejected, GatewayError, GatewayUnreachable
from chiron.client.ledger import Ledgers
from chiron.client.store import JobRecord
from chiron.runtime.sealing.hpke import PrivateKey
from chiron.wire.attestation import Role
from chiron.wire.grants import PredictionPolicy
from tests.support.predictor_door import SHARE, SPEC, WEIGHT, Door, predictor_door
from tests.support.server_door import policy
from tests.support.tee import OTHER_IMAGE, QuotingServices


@pytest.fixture
async def door(quoting: QuotingServices, tmp_path: Path) -> AsyncIterator[Door]:
    async with predictor_door(quoting, tmp_path, PredictionPolicy(decimals=3)) as door:
        yield door


async def test_owner_is_answered_directly(door: Door) -> None:
    x = np.random.default_rng(1).normal(size=(70, 2, 3)).astype(np.float32)
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address) as session:
        predictions = await session.predict(x)
    best_first = -np.sort(-(x.reshape(70, 6) @ WEIGHT), axis=1)
    assert np.allclose(predictions.scores, best_first, atol=2e-3)
    assert session.verified.claims.role is Role.PREDICTOR


async def test_another_measurement_is_told_nothing(door: Door) -> None:
    async with door.client(OTHER_IMAGE) as client:
        with pytest.raises(GatewayUnreachable):
            async with client.direct_predictor(SPEC.job, door.address):
                pytest.fail("it spoke")


def _another_owner(directory: Path) -> OwnerStore:
    store = OwnerStore(directory / "another-home")
    Ledgers(store).begin(SPEC.job)
    store.save_job(JobRecord(spec=SPEC, owner_key=PrivateKey.generate().private_bytes, share=SHARE))
    return store


async def test_predictor_of_another_owners_model_is_not_opened(door: Door, tmp_path: Path) -> None:
    """The host starts the same code on a model that it made itself, for the same job and even share."""
    door.store = _another_owner(tmp_path)
    async with door.client() as client:
        with pytest.raises(GatewayError) as refused:
            async with client.direct_predictor(SPEC.job, door.address):
                pytest.fail("it was accepted")
    assert refused.value.code == "opening-unsigned"


async def test_predictor_that_another_owner_has_opened_is_refused(door: Door, tmp_path: Path) -> None:
    async with door.client() as client, client.direct_predictor(SPEC.job, door.address):
        pass
    door.store = _another_owner(tmp_path)
    async with door.client() as client:
        with pytest.raises(EvidenceRejected) as refused:
            async with client.direct_predictor(SPEC.job, door.address):
                pytest.fail("it was accepted")
    assert refused.value.code == "evidence-key-binding"
    assert "another owner" in str(refused.value)


async def test_gateways_api_key_does_not_go_to_the_enclave(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[aiohttp.ClientSession] = []
    make = aiohttp.ClientSession.__init__

    def noting(session: aiohttp.ClientSession, **options: Any) -> None:
        make(session, **options)
        opened.append(session)

    async with door.client() as client:
        monkeypatch.setattr(aiohttp.ClientSession, "__init__", noting)
        async with client.direct_predictor(SPEC.job, door.address):
            assert opened
            assert all("Authorization" not in session.headers for session in opened)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("evidence", "{}", "request-malformed"),
        ("evidence", '{"role": "trainer"}', "request-malformed"),
        ("queries", "garbage", "request-malformed"),
        ("queries", '{"sealed": "AAAA"}', "predictor-locked"),
        ("opening", "garbage", "request-malformed"),
        ("opening", '{"sealed": "AAAA"}', "opening-unreadable"),
    ],
)
async def test_malformed_requests_get_a_clear_problem(door: Door, path: str, body: str, code: str) -> None:
    connector = attested_connector(policy(door.quoting), Role.PREDICTOR, SPEC.job)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(f"https://{door.address}/v1/jobs/{SPEC.job}/{path}", data=body) as response,
    ):
        assert response.status in (400, 409)
        assert (await response.json(content_type=None))["code"] == code
