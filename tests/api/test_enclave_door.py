"""The enclave-facing API: a token opens one job's things, for one role, while its enclave runs."""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from chiron.api.launchers.launcher import LaunchOrder
from chiron.api.storage.blobs import FilesystemBlobStore
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import GatewayRefused
from chiron.wire.attestation import Role
from chiron.wire.launch import GatewayChannel
from tests.api.conftest import Party
from tests.support.caller import CHUNKS, Answer
from tests.support.scripts import evidence, silent

SERVER_CHECKPOINT = "/objects/checkpoint-parameter-server"
NONCE = base64.b64encode(bytes(32)).decode()


@dataclass
class Idle:
    """A job whose enclaves do nothing by themselves: the test speaks for them."""

    world: Party
    job: str
    server: LaunchOrder
    trainer: LaunchOrder

    async def as_trainer(self, method: str, path: str, **options: object) -> Answer:
        return await self.world.as_enclave(method, path, self.trainer.token, **options)

    async def as_server(self, method: str, path: str, **options: object) -> Answer:
        return await self.world.as_enclave(method, path, self.server.token, **options)


@pytest.fixture
async def idle(world: Party, component: bytes) -> Idle:
    world.launcher.backend.scripts = dict.fromkeys(Role, silent)
    job = await world.create_job(component, trainers=1)
    server, trainer = await world.launcher.launched(2)
    return Idle(world, job, server, trainer)


@pytest.mark.parametrize("token", [None, "x", "0" * 16 + "." + "A" * 43, "."])
async def test_a_wrong_token_is_refused(idle: Idle, token: str | None) -> None:
    answer = await idle.world.as_enclave("GET", "/mailbox", token)
    assert (answer.status, answer.code) == (401, "unauthenticated")


async def test_a_token_of_another_launch_does_not_fit(idle: Idle) -> None:
    mixed = idle.server.token.split(".")[0] + "." + idle.trainer.token.split(".")[1]
    assert (await idle.world.as_enclave("GET", "/mailbox", mixed)).status == 401


async def test_an_api_key_is_no_enclave_token_nor_the_other_way_round(idle: Idle) -> None:
    key = idle.world.owner.headers["Authorization"].removeprefix("Bearer ")
    assert (await idle.world.as_enclave("GET", "/mailbox", key)).status == 401
    headers = {"Authorization": f"Bearer {idle.server.token}"}
    assert (await idle.world.nobody("GET", "/v1/jobs", headers=headers)).status == 401


async def test_an_enclave_reads_its_own_jobs_things_only(idle: Idle) -> None:
    spec = idle.trainer.spec
    assert (await idle.as_trainer("GET", f"/builders/{spec.builder_sha256}")).status == 200
    assert (await idle.as_trainer("GET", f"/builders/{'0' * 64}")).code == "builder-unknown"
    own = f"/datasets/{spec.dataset.dataset_id}"
    assert (await idle.as_trainer("GET", f"{own}/chunks/1")).raw == CHUNKS[1]
    assert (await idle.as_trainer("GET", own)).json["chunk_sha256"] == list(spec.dataset.chunk_sha256)
    assert (await idle.as_trainer("GET", f"{own}/chunks/4")).code == "chunk-unknown"
    await idle.world.owner.upload_dataset((b"q" * 1000,), "cd" * 16)
    assert (await idle.as_trainer("GET", f"/datasets/{'cd' * 16}/chunks/0")).code == "dataset-unknown"


@pytest.mark.parametrize(
    ("name", "size", "code"),
    [
        ("anything", 1, "object-refused"),
        ("report-0003", 1, "object-refused"),
        ("report-0002", 10_000_000, "object-refused"),
        ("model", 10_000_000, "object-refused"),
        ("Model", 1, "route-unknown"),
        ("..%2fmodel", 1, "route-unknown"),
    ],
)
async def test_only_objects_that_the_spec_implies_are_stored(
    idle: Idle, name: str, size: int, code: str
) -> None:
    assert (await idle.as_trainer("PUT", f"/objects/{name}", data=bytes(size))).code == code
    assert (await idle.world.owner("GET", f"/v1/jobs/{idle.job}/objects")).json["items"] == []


async def test_a_checkpoint_is_replaced_and_only_the_last_is_kept(idle: Idle) -> None:
    for content in (b"first", b"second"):
        assert (await idle.as_server("PUT", SERVER_CHECKPOINT, data=content)).status == 204
    assert (await idle.as_server("GET", SERVER_CHECKPOINT)).raw == b"second"
    blobs = idle.world.running.gateway.settings.blob_dir / "jobs"
    assert [path.read_bytes() for path in blobs.rglob("*") if path.is_file()] == [b"second"]
    assert (await idle.as_server("GET", "/objects/model")).code == "object-unknown"


async def test_an_object_that_is_replaced_while_it_is_looked_up_is_read_as_it_is_then(
    idle: Idle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was read, and its blob is gone: as when a killed enclave's last checkpoint is still written."""
    await idle.as_server("PUT", SERVER_CHECKPOINT, data=b"first")
    read = FilesystemBlobStore.read
    replaced: list[Answer] = []

    def replacing(store: FilesystemBlobStore, key: str, size: int) -> AsyncIterator[bytes]:
        async def late() -> AsyncIterator[bytes]:
            if not replaced:
                replaced.append(await idle.as_server("PUT", SERVER_CHECKPOINT, data=b"second"))
            async for piece in read(store, key, size):
                yield piece

        return late()

    monkeypatch.setattr(FilesystemBlobStore, "read", replacing)
    assert (await idle.as_server("GET", SERVER_CHECKPOINT)).raw == b"second"
    assert replaced


async def test_the_number_of_objects_is_bounded(idle: Idle) -> None:
    stored = 0
    for stem in ("report-{:04d}", "checkpoint-trainer-{}", "checkpoint-{}", "state-query-budget-{}"):
        answers = [await idle.as_trainer("PUT", f"/objects/{stem.format(n)}", data=b"x") for n in range(30)]
        assert answers[-1].status == 422
        stored += sum(answer.status == 204 for answer in answers)
    # Three exchanges' reports, and the one trainer's own checkpoint.
    assert stored == 3 + 1


async def test_progress_only_goes_forward(idle: Idle) -> None:
    async def report(state: str, done: int = 0, **more: object) -> Answer:
        body = {"state": state, "exchanges_done": done} | more
        return await idle.as_server("POST", "/progress", json=body)

    assert (await report("training", 2)).status == 204
    assert (await report("training", 2)).status == 204
    assert (await report("awaiting-grant")).code == "progress-refused"
    assert (await report("training", 4)).code == "progress-refused"
    for state in ("created", "launching", "cancelled", "unheard-of"):
        assert (await report(state)).code == "invalid-request"
    assert (await report("failed")).code == "invalid-request"
    assert (await report("training", failure="internal")).code == "invalid-request"
    late = await idle.as_trainer("POST", "/progress", json={"state": "succeeded"})
    assert late.code == "invalid-request"
    assert (await report("succeeded", 3)).status == 204
    shown = (await idle.world.owner("GET", f"/v1/jobs/{idle.job}")).json
    assert (shown["state"], shown["exchanges_done"]) == ("succeeded", 3)


async def test_an_ended_jobs_objects_stay_as_they_are(idle: Idle) -> None:
    assert (await idle.as_trainer("PUT", "/objects/model", data=b"m")).status == 204
    await idle.as_server("POST", "/progress", json={"state": "succeeded"})
    assert (await idle.as_trainer("PUT", "/objects/model", data=b"x")).code in (
        "job-ended",
        "unauthenticated",
    )
    assert (await idle.world.owner("GET", f"/v1/jobs/{idle.job}/objects/model")).raw == b"m"


async def test_trainers_wait_for_the_parameter_servers_address(idle: Idle) -> None:
    assert (await idle.as_trainer("GET", "/peers/parameter-server?wait=0.05")).status == 204
    waiting = asyncio.create_task(idle.as_trainer("GET", "/peers/parameter-server?wait=5"))
    await asyncio.sleep(0.05)
    ready = {"address": "127.0.0.1:9", "evidence": evidence(idle.server, bytes(32)).model_dump(mode="json")}
    assert (await idle.as_server("POST", "/ready", json=ready)).status == 204
    assert (await waiting).json["address"] == "127.0.0.1:9"
    assert (await idle.as_trainer("GET", "/peers/parameter-server")).status == 200


@pytest.mark.parametrize("wait", ["x", "-1", "nan", "inf", ""])
async def test_a_wait_must_be_a_time(idle: Idle, wait: str) -> None:
    assert (await idle.as_server("GET", f"/mailbox?wait={wait}")).code == "invalid-request"


async def test_a_trainer_gets_no_mail(idle: Idle) -> None:
    assert (await idle.as_trainer("GET", "/mailbox?wait=0")).code == "forbidden"


async def test_answers_go_to_their_own_question_and_count_once(idle: Idle) -> None:
    async def ask() -> Answer:
        return await idle.world.owner("POST", f"/v1/jobs/{idle.job}/evidence", json={"nonce": NONCE})

    asked = [asyncio.create_task(ask()) for _ in range(2)]
    first, second = [(await idle.as_server("GET", "/mailbox?wait=2")).json for _ in asked]
    assert (await idle.as_server("POST", f"/mailbox/{'0' * 32}", json={})).code == "message-unknown"
    refuse_second = {"refusal": "second-refused"}
    assert (await idle.as_server("POST", f"/mailbox/{second['id']}", json=refuse_second)).status == 204
    assert (await idle.as_server("POST", f"/mailbox/{second['id']}", json=refuse_second)).status == 204
    quoted = {"evidence": evidence(idle.server, bytes(32)).model_dump(mode="json")}
    assert (await idle.as_server("POST", f"/mailbox/{first['id']}", json=quoted)).status == 204
    answers = await asyncio.gather(*asked)
    assert sorted(answer.status for answer in answers) == [200, 422]


async def test_a_message_is_not_lost_when_the_enclave_hangs_up(idle: Idle) -> None:
    socket = str(idle.world.running.enclave_socket)
    _, writer = await asyncio.open_unix_connection(socket)
    head = (
        f"GET /enclave/v1/mailbox?wait=9 HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {idle.server.token}\r\n"
    )
    writer.write(f"{head}\r\n".encode())
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    path = f"/v1/jobs/{idle.job}/evidence"
    asked = asyncio.create_task(idle.world.owner("POST", path, json={"nonce": NONCE}))
    mail = (await idle.as_server("GET", "/mailbox?wait=2")).json
    await idle.as_server("POST", f"/mailbox/{mail['id']}", json={"refusal": "still-here"})
    assert (await asked).code == "still-here"


async def test_a_problem_is_told_whole_where_less_was_expected_than_it_is_long(idle: Idle) -> None:
    channel = GatewayChannel(socket=str(idle.world.launcher.backend.socket), token=idle.trainer.token)
    async with GatewayClient(channel) as gateway:
        with pytest.raises(GatewayRefused) as refused:
            await gateway.get_object("state-query-budget", limit=8)
    assert refused.value.code == "object-unknown"
