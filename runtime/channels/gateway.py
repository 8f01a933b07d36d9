"""The enclave's only way out: the gateway's enclave-facing API. Everything it returns is hostile input.

Requests are retried while the gateway is away (it may restart under us) until a deadline; every body is
read with a bound; every byte string that has a known digest is checked against it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any, Self, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from chiron.ps.streams import pieces
from chiron.runtime.errors import GatewayRefused, GatewayUnreachable, InputCorrupted
from chiron.wire import codes, paths
from chiron.wire.contract import MAX_COMPONENT_BYTES
from chiron.wire.enclave_api import Mail, MailReply, Progress, Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.launch import GatewayChannel
from chiron.wire.problems import Problem

_Model = TypeVar("_Model", bound=BaseModel)
_LOG = logging.getLogger(__name__)

LONG_POLL_S = 20
"""How long one waiting request is held open by the gateway."""
RECONNECT_DEADLINE_S = 120
"""How long the gateway may be away (a restart) before the enclave gives up."""
MAX_JSON_BYTES = 96 * 2**20
"""A relayed sealed message in base64, at most."""

MAX_PROBLEM_BYTES = 64 * 1024
"""A problem's body; objects can be smaller than one."""

_RESTARTING = frozenset({codes.ENCLAVE_NOT_RUNNING, codes.ENCLAVE_GONE})
_RESTART_PAUSE_S = 0.1


class GatewayClient:
    """Speaks `/enclave/v1` with this launch's token. Use as an async context manager."""

    def __init__(self, channel: GatewayChannel) -> None:
        connector = aiohttp.UnixConnector(channel.socket) if channel.socket else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(
            channel.url,
            connector=connector,
            headers={"Authorization": f"Bearer {channel.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=LONG_POLL_S + 40),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def ready(self, ready: Ready) -> None:
        """Tell the gateway that this enclave is up, and where its peers find it."""
        await self._send("POST", paths.ENCLAVE_READY, ready)

    async def parameter_server(self) -> Ready:
        """Wait until the job's parameter server is up; what is returned must still be verified.

        Raises:
            GatewayRefused: there has been none for `RECONNECT_DEADLINE_S`; one that crashed is back by then.
        """
        return await self._peer(paths.ENCLAVE_PARAMETER_SERVER)

    async def shard(self, index: int) -> Ready:
        """The same for a shard of the parameter server: its certificate will have to name it."""
        return await self._peer(paths.ENCLAVE_SHARD.of(index))

    async def _peer(self, path: str) -> Ready:
        deadline = time.monotonic() + RECONNECT_DEADLINE_S
        while True:
            try:
                body = await self._request("GET", f"{path}?wait={LONG_POLL_S}", limit=MAX_JSON_BYTES)
            except GatewayRefused as error:
                if error.code not in _RESTARTING or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_RESTART_PAUSE_S)
                continue
            if body:
                return _parse(Ready, body)

    async def mail(self) -> AsyncIterator[Mail]:
        """Messages that the gateway relays to this enclave, for ever."""
        while True:
            body = await self._request(
                "GET", f"{paths.ENCLAVE_MAILBOX}?wait={LONG_POLL_S}", limit=MAX_JSON_BYTES
            )
            if body:
                yield _parse(Mail, body)

    async def reply(self, mail: Mail, reply: MailReply) -> None:
        """Answer one message."""
        await self._send("POST", paths.ENCLAVE_MAIL.of(mail.id), reply)

    async def builder(self, sha256: str) -> bytes:
        """The builder component with this digest."""
        body = await self._request("GET", paths.ENCLAVE_BUILDER.of(sha256), limit=MAX_COMPONENT_BYTES)
        if sha256_hex(body) != sha256:
            raise InputCorrupted(
                "builder-digest-mismatch", "the stored builder is not the one in the job spec"
            )
        return body

    async def chunk(self, dataset_id: str, number: int, size: int) -> bytes:
        """Ciphertext of one chunk; the reader checks its digest and opens it."""
        return await self._request("GET", paths.ENCLAVE_DATASET_CHUNK.of(dataset_id, number), limit=size)

    async def put_object(self, name: str, sealed: bytes) -> None:
        """Store a sealed object of this job. It can be large, so it goes a piece at a time."""
        await self._request("PUT", paths.ENCLAVE_OBJECT.of(name), payload=sealed, limit=MAX_JSON_BYTES)

    async def get_object(self, name: str, limit: int) -> bytes:
        """Fetch a sealed object of this job of at most `limit` bytes."""
        return await self._request("GET", paths.ENCLAVE_OBJECT.of(name), limit=limit)

    async def find_object(self, name: str, limit: int) -> bytes | None:
        """As `get_object`; None where the job has no object of this name."""
        try:
            return await self.get_object(name, limit)
        except GatewayRefused as error:
            if error.code != codes.OBJECT_UNKNOWN:
                raise
            return None

    async def progress(self, progress: Progress) -> None:
        """Report the public schedule's progress."""
        await self._send("POST", paths.ENCLAVE_PROGRESS, progress)

    async def _send(self, method: str, path: str, body: BaseModel) -> None:
        headers = {"Content-Type": "application/json"}
        data = body.model_dump_json().encode()
        await self._request(method, path, data=data, headers=headers, limit=MAX_JSON_BYTES)

    async def _request(
        self, method: str, path: str, *, limit: int, payload: bytes | None = None, **options: Any
    ) -> bytes:
        """One request, retried while the gateway is away.

        Raises:
            GatewayUnreachable: nobody answered for `RECONNECT_DEADLINE_S`.
            GatewayRefused: the gateway answered a problem.
            InputCorrupted: the answer is longer than `limit` bytes.
        """
        deadline = time.monotonic() + RECONNECT_DEADLINE_S
        pause = 0.05
        while True:
            if payload is not None:
                headers = {"Content-Length": str(len(payload)), "Content-Type": "application/octet-stream"}
                options = {"data": pieces(memoryview(payload)), "headers": headers}
            try:
                async with self._session.request(method, path, **options) as response:
                    expected = limit if response.status < 400 else MAX_PROBLEM_BYTES
                    body = await _read_bounded(response, expected)
                    if response.status < 400:
                        return body
                    if response.status != 503:
                        raise _refusal(response.status, body)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                _LOG.info("gateway away (%s), will retry", type(error).__name__)
            if time.monotonic() > deadline:
                raise GatewayUnreachable(codes.GATEWAY_UNREACHABLE, "the gateway did not answer in time")
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)


async def _read_bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            response.close()
            raise InputCorrupted("answer-too-large", "the gateway's answer exceeds its bound")
    return bytes(body)


def _refusal(status: int, body: bytes) -> GatewayRefused:
    try:
        return GatewayRefused(Problem.model_validate_json(body).code, f"the gateway answered {status}")
    except ValidationError:
        return GatewayRefused("gateway-error", f"the gateway answered {status}")


def _parse(model: type[_Model], body: bytes) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise InputCorrupted("gateway-message-invalid", "the gateway's message is malformed") from error
