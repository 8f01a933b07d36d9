"""A job from upload to answered query, through the real gateway and the real sockets."""

import asyncio
import base64

from chiron.wire.attestation import Evidence, Role
from chiron.wire.jobs import Job, JobState
from tests.api.conftest import Party
from tests.support import scripts
from tests.support.caller import CHUNKS
from tests.support.scripts import Launched


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_a_job_runs_to_its_end_and_its_model_answers(world: Party, component: bytes) -> None:
    owner = world.owner
    job = await world.create_job(component)
    nonce = bytes(range(32))
    answer = await owner(
        "POST", f"/v1/jobs/{job}/evidence", json={"role": "parameter-server", "nonce": b64(nonce)}
    )
    assert Evidence.model_validate_json(answer.raw).claims.nonce == nonce
    assert (await owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": b64(b"grant")})).status == 204

    states = [(event["state"], event["exchanges_done"]) for event in await world.events(job)]
    assert states[0] == ("created", 0)
    assert states[-1] == ("succeeded", 3)
    assert list(dict.fromkeys(states)) == states

    objects = {entry["name"] for entry in (await owner("GET", f"/v1/jobs/{job}/objects")).json["items"]}
    assert objects == {"model", "outcome", "report-0000", "report-0001", "report-0002"}
    assert (await owner("GET", f"/v1/jobs/{job}/objects/model")).raw == b"m" * 5000

    assert (await owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
    answer = await owner("POST", f"/v1/jobs/{job}/queries", json={"sealed": b64(b"query")})
    assert base64.b64decode(answer.json["sealed"]) == b"answer to query"
    assert (await owner("GET", f"/v1/jobs/{job}/predictor")).json == {"state": "ready", "address": None}
    assert (await owner("DELETE", f"/v1/jobs/{job}/predictor")).json["state"] == "stopped"
    assert not world.launcher.running

    seen = (await owner("GET", f"/v1/jobs/{job}/observations")).json["items"]
    assert sum(entry["size"] for entry in seen if entry["kind"] == "dataset-chunk") == sum(map(len, CHUNKS))
    assert {"builder", "evidence", "grant", "object", "query", "answer"} <= {entry["kind"] for entry in seen}


async def test_a_predictor_asked_for_while_the_jobs_enclaves_still_leave_is_not_taken_along(
    world: Party, component: bytes
) -> None:
    may_leave = asyncio.Event()

    async def lingering(me: Launched) -> int:
        code = await scripts.parameter_server(me)
        await may_leave.wait()
        return code

    world.launcher.backend.scripts[Role.PARAMETER_SERVER] = lingering
    owner = world.owner
    job = await world.create_job(component)
    assert (await owner("POST", f"/v1/jobs/{job}/grant", json={"sealed": b64(b"grant")})).status == 204
    await world.events(job)
    assert (await owner("POST", f"/v1/jobs/{job}/predictor")).status == 202
    may_leave.set()
    answer = await owner("POST", f"/v1/jobs/{job}/queries", json={"sealed": b64(b"query")})
    assert base64.b64decode(answer.json["sealed"]) == b"answer to query"


async def test_what_the_job_view_shows_parses_as_the_wire_model(world: Party, component: bytes) -> None:
    job = await world.create_job(component)
    shown = Job.model_validate_json((await world.owner("GET", f"/v1/jobs/{job}")).raw)
    assert shown.spec.exchange.trainers == 2
    assert shown.spec.exchange.parameters == shown.spec.envelope.max_parameters == 1000
    assert shown.state is not JobState.SUCCEEDED
