"""The owner's own session against the real gateway: both ends of the interface agree."""

import json

import pytest

from chiron.client.errors import GatewayError
from chiron.client.gateway_session import GatewaySession
from chiron.client.jobs import check_spec, watch
from chiron.wire.attestation import Role
from chiron.wire.jobs import JobRequest, JobState
from tests.api.conftest import Party
from tests.support.caller import BUILDER_MANIFEST, CHUNKS, Caller, manifest


def session(caller: Caller) -> GatewaySession:
    return GatewaySession(caller.url, caller.headers["Authorization"].removeprefix("Bearer "))


async def test_the_session_goes_from_upload_to_answer(world: Party, component: bytes) -> None:
    async with session(world.operator) as operator, session(world.owner) as owner:
        builder = await operator.upload_builder(json.dumps(BUILDER_MANIFEST).encode(), component)
        sha256 = builder["sha256"] if isinstance(builder, dict) else builder.sha256
        await owner.create_dataset(manifest())
        for number, chunk in enumerate(CHUNKS):
            await owner.put(f"/v1/datasets/{manifest().dataset_id}/chunks/{number}", chunk)
        await owner.post(f"/v1/datasets/{manifest().dataset_id}/complete")

        request = JobRequest(dataset_id=manifest().dataset_id, builder_sha256=sha256, exchanges=4)
        job = await owner.create_job(request)
        check_spec(job.spec, request, manifest())
        path = f"/v1/jobs/{job.spec.job}"
        evidence = await owner.evidence(job.spec.job, Role.PARAMETER_SERVER, bytes(range(32)))
        assert evidence.claims.nonce == bytes(range(32))
        await owner.relay(f"{path}/grant", b"grant")
        seen = [(step.state, step.exchanges_done) async for step in watch(owner, job.spec.job)]
        assert seen[-1] == (JobState.SUCCEEDED, 4)
        assert len(await owner.objects(job.spec.job)) == 4 + 2
        await owner.post(f"{path}/predictor")
        assert await owner.relay(f"{path}/queries", b"query")
        assert len(await owner.observations(job.spec.job)) > len(CHUNKS)


async def test_a_problem_keeps_its_code_on_the_way(world: Party) -> None:
    async with session(world.owner) as owner:
        with pytest.raises(GatewayError) as refused:
            await owner.job("00" * 16)
    assert refused.value.code == "job-unknown"
