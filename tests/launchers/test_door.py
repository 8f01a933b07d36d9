"""A predictor's door: bytes go from a port of this machine into a job's namespaces, and nowhere else."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from api.launchers.door import INNER_PORT
from api.launchers.errors import EnclaveNotStarted
from api.launchers.local import LocalLauncher, LocalOptions
from api.launchers.local_enclave import LocalEnclave
from runtime.wire.attestation import Role
from tests.launchers.conftest import OTHER_JOB, Probed, order, probing

ECHO = f"""
import os, socket
with socket.create_server(("127.0.0.1", {INNER_PORT})) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as said:
            connection.sendall(said.read()[::-1])
"""


@pytest.fixture
async def probed(bare_image: Path, short_path: Path) -> AsyncIterator[Probed]:
    async with probing(bare_image, short_path, ECHO) as there:
        yield there


async def opened(probed: Probed, job: str | None = None) -> tuple[LocalLauncher, LocalEnclave]:
    options = LocalOptions(image=probed.image, tmp_bytes=2**24, direct_ports=range(0))
    launcher = await LocalLauncher.open(probed.settings, options)
    wanted = replace(order(role=Role.PREDICTOR), at_a_door=True)
    return launcher, await launcher.launch(replace(wanted, job=job) if job else wanted)


async def said_through(address: str | None, words: bytes) -> bytes:
    assert address is not None
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_bytes_reach_the_enclave_and_its_answer_comes_back_whole(probed: Probed) -> None:
    launcher, enclave = await opened(probed)
    try:
        await probed.until_printed(enclave, "listening")
        words = bytes(range(256)) * 4000
        answers = await asyncio.gather(*(said_through(enclave.door, words) for _ in range(3)))
        assert answers == [words[::-1]] * 3
    finally:
        await launcher.close()


async def test_door_is_shut_when_the_enclave_has_ended(probed: Probed) -> None:
    launcher, enclave = await opened(probed)
    try:
        await probed.until_printed(enclave, "listening")
        await enclave.stop(0)
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await said_through(enclave.door, b"anybody?") == b""
                except ConnectionRefusedError:
                    break
                except ConnectionError:
                    # Taken, and broken off: the relay was being ended.
                    continue
    finally:
        await launcher.close()


async def test_each_job_has_a_door_of_its_own_and_others_have_none(probed: Probed) -> None:
    launcher, first = await opened(probed)
    try:
        second = await launcher.launch(replace(order(OTHER_JOB, role=Role.PREDICTOR), at_a_door=True))
        trainer = await launcher.launch(order())
        assert first.door != second.door
        assert trainer.door is None
        assert (await probed.launch()).door is None
    finally:
        await launcher.close()


async def test_measurement_that_is_not_kept_is_not_launched(probed: Probed) -> None:
    with pytest.raises(EnclaveNotStarted, match="no image"):
        await probed.launcher.launch(replace(order(role=Role.PREDICTOR), measurement="0" * 64))
