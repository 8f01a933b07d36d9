"""The enclave's client of the gateway, its only way out. Everything the gateway answers is hostile input.

Requests are retried while the gateway is away (it may restart under us) until a deadline; every body is
read with a bound; every byte string that has a known digest is checked against it.
"""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from chiron.ps.streams import pieces
from chiron.runtime.errors import GatewayRefused, GatewayUnreachable, InputCorrupted
from chiron.wire import codes, paths
from chiron.wire.bounded import read_stream
from chiron.wire.codes import Problem
from chiron.wire.contract import MAX_COMPONENT_BYTES
from chiron.wire.enclave_api import Mail, MailReply, Progress, Ready
from chiron.wire.encoding import sha256_hex
from chiron.wire.errors import LimitExceeded
from chiron.wire.launch import GatewayChannel
from chiron.wire.machines import MachineEvidence
from chiron.wire.retrying import Backoff, retry

_Model = TypeVar("_Model", bound=BaseModel)
_LOG = logging.getLogger(__name__)

LONG_POLL_S = 20
"""How long one waiting request is held open by the gateway."""
RECONNECT_DEADLINE_S = 120
"""How long the gateway may be away (a restart) before the enclave gives up."""
MAX_JSON_BYTES = 96 * 2**20
"""A relayed sealed message in base64, at most."""

PROGRESS_BYTES = 256
"""A word on progress, filled with spaces."""
MAX_PROBLEM_BYTES = 64 * 1024
"""A problem's body; objects can be smaller than one."""

_RESTARTING = frozenset({codes.ENCLAVE_NOT_RUNNING, codes.ENCLAVE_GONE})
_NO_ANSWER = (codes.GATEWAY_UNREACHABLE, "the gateway did not answer in time")


class GatewayClient:
    """Speaks `/enclave/v1` with this launch's token. Use as an async context manager."""

    def __init__(self, channel: GatewayChannel, patience: Callable[[], Backoff] | None = None) -> None:
        """`patience` makes each request's: by default `RECONNECT_DEADLINE_S` of real time."""
        self._patience = patience or (lambda: Backoff(RECONNECT_DEADLINE_S))
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

    async def machine(self, told: MachineEvidence) -> None:
        """Tell this machine's key."""
        await self._send("POST", paths.ENCLAVE_MACHINE, told)

    async def parameter_server(self) -> Ready:
        """Wait until the job's parameter server is up; what is returned must still be verified.

        Raises:
            GatewayRefused: there has been none for `RECONNECT_DEADLINE_S`; one that crashed is back by then.
        """
        return await self._peer(paths.ENCLAVE_PARAMETER_SERVER)

    async def shard(self, index: int) -> Ready:
        """Wait until a shard of the parameter server is up; its certificate will have to name it.

        Raises:
            GatewayRefused: there has been none for `RECONNECT_DEADLINE_S`; one that crashed is back by then.
        """
        return await self._peer(paths.ENCLAVE_SHARD.of(index))

    async def _peer(self, path: str) -> Ready:
        waiting = f"{path}?wait={LONG_POLL_S}"
        patience = self._patience()

        async def ask() -> Ready:
            while not (body := await self._request("GET", waiting, limit=MAX_JSON_BYTES)):
                # It is there, and may wait for the owner: however long, that is no absence.
                patience.reset()
            return _parse(Ready, body)

        return await retry(ask, _is_restarting, patience)

    async def mail(self) -> AsyncIterator[Mail]:
        """Yield the messages that the gateway relays to this enclave, for ever."""
        path = f"{paths.ENCLAVE_MAILBOX}?wait={LONG_POLL_S}"
        while True:
            body = await self._request("GET", path, limit=MAX_JSON_BYTES)
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
        """Fetch a sealed object of at most `limit` bytes; None where the job has none of this name."""
        try:
            return await self.get_object(name, limit)
        except GatewayRefused as error:
            if error.code != codes.OBJECT_UNKNOWN:
                raise
            return None

    async def progress(self, progress: Progress) -> None:
        """Report the public schedule's progress, in a body of one size whatever the slot's length is."""
        await self._send("POST", paths.ENCLAVE_PROGRESS, progress, at_least=PROGRESS_BYTES)

    async def _send(self, method: str, path: str, body: BaseModel, *, at_least: int = 0) -> None:
        headers = {"Content-Type": "application/json"}
        data = body.model_dump_json().encode().ljust(at_least)
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

        async def attempt() -> bytes:
            if payload is not None:
                headers = {"Content-Length": str(len(payload)), "Content-Type": "application/octet-stream"}
                options.update(data=pieces(memoryview(payload)), headers=headers)
            try:
                return await self._once(method, path, limit, options)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                _LOG.info("gateway away (%s), will retry", type(error).__name__)
                raise GatewayUnreachable(*_NO_ANSWER) from error

        return await retry(attempt, _is_away, self._patience())

    async def _once(self, method: str, path: str, limit: int, options: dict[str, Any]) -> bytes:
        async with self._session.request(method, path, **options) as response:
            refused = response.status >= 400
            try:
                body = await read_stream(response.content.iter_any(), MAX_PROBLEM_BYTES if refused else limit)
            except LimitExceeded as error:
                raise InputCorrupted("answer-too-large", "the gateway's answer exceeds its bound") from error
            if response.status == 503:
                raise GatewayUnreachable(*_NO_ANSWER)
            if refused:
                raise _refusal(response.status, body)
            return body


def _is_away(error: Exception) -> bool:
    return isinstance(error, GatewayUnreachable)


def _is_restarting(error: Exception) -> bool:
    return isinstance(error, GatewayRefused) and error.code in _RESTARTING


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
