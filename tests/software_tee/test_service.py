"""The quoting service over its real socket: what enclaves get, and what malformed requests get."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chiron.api.software_tee.quote import EnclaveIdentity
from chiron.api.software_tee.tee import SoftwareTee, serve_quotes
from chiron.runtime.attestation.platform import SealingPolicy, attest
from chiron.runtime.attestation.software import SoftwarePlatform
from chiron.runtime.attestation.verify import Expected, verify
from chiron.runtime.errors import PlatformUnavailable
from chiron.wire.attestation import AttestationPolicy, Claims, Role
from chiron.wire.quoting import LENGTH, MAX_REQUEST_BYTES

IDENTITY = EnclaveIdentity(b"\x11" * 32)


@pytest.fixture(scope="module")
def tee(tmp_path_factory: pytest.TempPathFactory) -> SoftwareTee:
    return SoftwareTee.open(tmp_path_factory.mktemp("tee"), datetime.now(UTC))


@pytest.fixture
async def socket(tee: SoftwareTee, tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "quoting.sock"
    server = await serve_quotes(tee, path, IDENTITY)
    yield path
    server.close()


async def _say(path: Path, message: bytes, *, finish: bool = True) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    with contextlib.suppress(ConnectionError):
        writer.write(message)
        await writer.drain()
        if finish:
            writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def _framed(value: object) -> bytes:
    body = json.dumps(value).encode()
    return LENGTH.pack(len(body)) + body


async def test_enclaves_evidence_verifies_against_the_launched_measurement(
    tee: SoftwareTee, socket: Path
) -> None:
    platform = SoftwarePlatform(str(socket))
    claims = Claims(role=Role.TRAINER, job="a" * 32, tls_public_key_sha256="b" * 64, nonce=b"\x05" * 32)
    evidence = await asyncio.to_thread(attest, platform, claims)
    policy = AttestationPolicy(
        software_root=tee.root_der, measurements=frozenset({IDENTITY.measurement.hex()})
    )
    verified = verify(evidence, policy, Expected(Role.TRAINER, "a" * 32, b"\x05" * 32), datetime.now(UTC))
    assert verified.quote.measurement == IDENTITY.measurement.hex()


async def test_sealing_key_is_the_tees_for_the_launched_identity(tee: SoftwareTee, socket: Path) -> None:
    platform = SoftwarePlatform(str(socket))
    key = await asyncio.to_thread(platform.sealing_key, SealingPolicy.MEASUREMENT, b"label")
    assert key == tee.sealing_key(IDENTITY, "measurement", b"label")


async def test_several_requests_on_one_connection_are_answered_in_order(socket: Path) -> None:
    request = {"kind": "sealing-key", "policy": "measurement"}
    labels = ["YQ==", "Yg==", "YQ=="]
    raw = await _say(socket, b"".join(_framed({"request": request | {"label": label}}) for label in labels))
    replies = []
    while raw:
        (length,) = LENGTH.unpack_from(raw)
        replies.append(json.loads(raw[4 : 4 + length])["sealing_key"])
        raw = raw[4 + length :]
    assert replies[0] == replies[2] != replies[1]
    assert len(replies) == 3


@pytest.mark.parametrize(
    "message",
    [
        _framed({}),
        _framed({"request": {"kind": "quote"}}),
        _framed({"request": {"kind": "quote", "report_data": "AAAA"}}),
        _framed({"request": {"kind": "quote", "report_data": "!" * 88}}),
        _framed({"request": {"kind": "fuse-secret"}}),
        _framed({"request": {"kind": "quote", "report_data": "A" * 86 + "==", "measurement": "00" * 32}}),
        _framed({"request": {"kind": "sealing-key", "policy": "everyone", "label": "YQ=="}}),
        _framed({"request": {"kind": "sealing-key", "policy": "measurement", "label": ""}}),
        _framed({"request": {"kind": "sealing-key", "policy": "measurement", "label": "A" * 88}}),
        LENGTH.pack(3) + b"\xff\xfe\xfd",
        LENGTH.pack(0),
        LENGTH.pack(MAX_REQUEST_BYTES + 1) + b"x" * (MAX_REQUEST_BYTES + 1),
        LENGTH.pack(2**32 - 1),
        LENGTH.pack(100) + b"{",
        b"\x01",
    ],
)
async def test_malformed_request_gets_nothing_and_leaves_the_service_up(socket: Path, message: bytes) -> None:
    assert await _say(socket, message) == b""
    platform = SoftwarePlatform(str(socket))
    assert len(await asyncio.to_thread(platform.sealing_key, SealingPolicy.MEASUREMENT, b"l")) == 32


async def test_malformed_request_is_logged_without_its_content(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await _say(socket, _framed({"request": {"kind": "s3cret"}}))
    assert "malformed request" in caplog.text
    assert "s3cret" not in caplog.text


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
async def test_arbitrary_bodies_get_no_answer(socket: Path, body: bytes) -> None:
    assert await _say(socket, LENGTH.pack(len(body)) + body) == b""


@pytest.mark.parametrize(
    "reply", [b"", b"\x02\0", LENGTH.pack(5) + b"{}", LENGTH.pack(2) + b"{}", b"garbage"]
)
async def test_platform_refuses_a_service_that_answers_nonsense(tmp_path: Path, reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(reply)
        writer.close()

    path = tmp_path / "hostile.sock"
    server = await asyncio.start_unix_server(answer, path=path)
    platform = SoftwarePlatform(str(path))
    with pytest.raises(PlatformUnavailable):
        await asyncio.to_thread(platform.quote, bytes(64))
    with pytest.raises(PlatformUnavailable):
        await asyncio.to_thread(platform.sealing_key, SealingPolicy.MEASUREMENT, b"l")
    server.close()


def test_platform_without_a_service_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(PlatformUnavailable):
        SoftwarePlatform(str(tmp_path / "nobody.sock")).quote(bytes(64))


def test_software_platform_says_what_it_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        SoftwarePlatform("x")
    assert "SOFTWARE TEE" in caplog.text
    assert "development only" in caplog.text
