"""A client's requests to the parameter server: retried while the connection is broken, bounded."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias, TypeVar

import aiohttp
from pydantic import ValidationError

from chiron.ps.codec import HEADER_BYTES, Hello, Kind, parse_header
from chiron.ps.errors import (
    ExchangeError,
    ExchangeRefused,
    FrameInvalid,
    RolledBack,
    ServerUnreachable,
    TrialOver,
)
from chiron.ps.streams import Body, pieces
from chiron.wire import codes, paths
from chiron.wire.bounded import read_stream
from chiron.wire.codes import Problem
from chiron.wire.errors import LimitExceeded
from chiron.wire.retrying import Backoff, retry

_T = TypeVar("_T")
_MAX_PROBLEM_BYTES = 4096
LASTED_S = 2.0
"""A request that was under way for longer had reached the server."""
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
"""An answer may take as long as the slowest trainer; a dead peer is found by TCP keep-alive."""


Reconnect: TypeAlias = Callable[[], Awaitable[tuple[aiohttp.ClientSession, str]]]
"""Finds the server after a connection broke: it may have been restarted elsewhere. An error that is no
`connection_lost` ends the exchange."""


def connection_lost(error: Exception) -> bool:
    """Whether a request may succeed when it is made again: its connection broke, or there was none."""
    return isinstance(error, aiohttp.ClientError | OSError)


class Transport:
    """Requests of one client to one server."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        hello: Callable[[], Hello],
        patience_s: float,
        reconnect: Reconnect | None,
    ) -> None:
        """`hello` says, at the beginning of every connection, what the client knows."""
        self._session = session
        self._url = url
        self._hello = hello
        self._patience_s = patience_s
        self._reconnect = reconnect
        self._greeted = False
        self._lost = False

    async def persist(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `attempt`, which is repeated while the server is away.

        Raises:
            ServerUnreachable: it stayed away for `patience_s`.
        """
        backoff = Backoff(self._patience_s)
        try:
            return await retry(lambda: self._try(attempt, backoff), connection_lost, backoff)
        except (aiohttp.ClientError, OSError) as error:
            raise ServerUnreachable(
                "parameter-server-unreachable", "the parameter server did not answer in time"
            ) from error

    async def _try(self, attempt: Callable[[], Awaitable[_T]], backoff: Backoff) -> _T:
        greeted_at: float | None = None
        try:
            if self._lost and self._reconnect is not None:
                self._session, self._url = await self._reconnected(self._reconnect, backoff)
            self._lost = False
            if not self._greeted:
                await self._greet()
            greeted_at = time.monotonic()
            return await attempt()
        except (aiohttp.ClientError, OSError):
            self._greeted, self._lost = False, True
            if greeted_at is not None and time.monotonic() - greeted_at > LASTED_S:
                # The server was there, and worked on our request: this is a new absence.
                backoff.reset()
            raise
        except asyncio.CancelledError:
            # The connection goes with its request: the next one begins with a greeting.
            self._greeted = False
            raise

    async def _reconnected(self, reconnect: Reconnect, backoff: Backoff) -> tuple[aiohttp.ClientSession, str]:
        began = time.monotonic()
        try:
            return await reconnect()
        finally:
            if time.monotonic() - began > self._patience_s / 2:
                # A successor was there, and long in coming: it may have waited for the data's owner.
                backoff.reset()

    @asynccontextmanager
    async def post(
        self, path: str, head: bytes, payload: memoryview, answer_bytes: int
    ) -> AsyncIterator[Body]:
        """Send `head` and `payload`; the answer's body, which is of `answer_bytes` exactly."""
        headers = {
            "Content-Length": str(len(head) + len(payload)),
            "Content-Type": "application/octet-stream",
        }
        async with self._session.post(
            self._url + path, data=_upload(head, payload), headers=headers, timeout=TIMEOUT
        ) as response:
            if response.status != 200:
                raise await _refusal(response)
            if response.content_length != answer_bytes:
                raise FrameInvalid("frame-size", "the answer has another size than its frame")
            yield Body(response.content)

    async def _greet(self) -> None:
        async with self.post(
            paths.EXCHANGE_HELLO, self._hello().pack(), memoryview(b""), HEADER_BYTES
        ) as answer:
            if parse_header(await answer.read(HEADER_BYTES)).kind is not Kind.WELCOME:
                raise FrameInvalid("frame-unexpected", "the server did not return the greeting")
        self._greeted = True


async def _upload(head: bytes, payload: memoryview) -> AsyncIterator[bytes | memoryview]:
    yield head
    async for piece in pieces(payload):
        yield piece


_KINDS: dict[str, type[ExchangeError]] = {
    codes.TRIAL_OVER: TrialOver,
    codes.CHECKPOINT_ROLLED_BACK: RolledBack,
}


async def _refusal(response: aiohttp.ClientResponse) -> Exception:
    if response.status >= 500:
        return aiohttp.ClientError(f"the parameter server answered {response.status}")
    try:
        problem = await read_stream(response.content.iter_any(), _MAX_PROBLEM_BYTES)
        code = Problem.model_validate_json(problem).code
    except (LimitExceeded, ValidationError):
        code = "exchange-refused"
    kind = FrameInvalid if response.status == 400 else _KINDS.get(code, ExchangeRefused)
    return kind(code, f"the parameter server answered {response.status}")
