"""A predictor's door: bytes go from a port of this machine into a job's namespaces, and nowhere else."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from chiron.api.errors import EnclaveNotStarted
from chiron.api.launchers.namespaces import INNER_PORT
from chiron.wire.attestation import Role
from tests.launchers.conftest import order, probing
from tests.support.specs import OTHER_JOB

ECHO = f"""
import os, socket
with socket.create_server(("127.0.0.1", {INNER_PORT})) as server:
    print("listening")
    while True:
        connection, _ = server.accept()
        with connection, connection.makefile("rb") as said:
            connection.sendall(said.read()[::-1])
"""


async def said_through(address: str | None, words: bytes) -> bytes:
    assert address is not None
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(words)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_bytes_reach_the_predictor_and_come_back_whole_until_it_has_ended(
    bare_image: Path, short_path: Path
) -> None:
    async with probing(bare_image, short_path, ECHO, direct_ports=range(0)) as there:
        enclave = await there.launcher.launch(replace(order(role=Role.PREDICTOR), at_a_door=True))
        await there.until_printed(enclave, "listening")
        words = bytes(range(256)) * 4000
        answers = await asyncio.gather(*(said_through(enclave.door, words) for _ in range(3)))
        assert answers == [words[::-1]] * 3
        assert (await there.launch(OTHER_JOB)).door is None
        with pytest.raises(EnclaveNotStarted, match="no image"):
            await there.launcher.launch(replace(order(role=Role.PREDICTOR), measurement="0" * 64))
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


async def test_first_free_port_of_those_named_is_taken_and_none_besides(
    bare_image: Path, short_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    wanted = replace(order(role=Role.PREDICTOR), at_a_door=True)
    async with probing(bare_image, short_path, ECHO, direct_ports=range(port, port + 1)) as there:
        enclave = await there.launcher.launch(wanted)
        assert enclave.door == f"127.0.0.1:{port}"
        with pytest.raises(EnclaveNotStarted, match="no port is free"):
            await there.launcher.launch(wanted)
        await enclave.stop(0)
        async with asyncio.timeout(20):
            while True:
                try:
                    again = await there.launcher.launch(wanted)
                    break
                except EnclaveNotStarted:
                    # The relay of the one before is still being ended.
                    continue
        assert again.door == f"127.0.0.1:{port}"
