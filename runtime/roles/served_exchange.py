"""One server of the exchange as an enclave runs it: its state, its door, and what ends it before its time."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiohttp import web

from chiron.ps.sharding import shard_server
from chiron.runtime.channels.enrolment import MAX_ENROLMENT_BYTES
from chiron.runtime.errors import EnclaveError, InputCorrupted
from chiron.wire import codes
from chiron.wire.answers import refusal
from chiron.wire.connections import DoorLimits
from chiron.wire.doors import open_door
from chiron.wire.jobs import SUMS, plan_bytes, shares
from chiron.wire.launch import LaunchSpec

_LOG = logging.getLogger(__name__)

_HANG_UP_S = 0.05
"""The wait for open connections at an end by error. Not 0: aiohttp takes that for no bound at all."""


class ServedExchange:
    """The exchange's server of the shard that `launch` names; the parameter server is shard 0."""

    def __init__(self, launch: LaunchSpec, save: Callable[[], Awaitable[None]]) -> None:
        """Let `save` write a checkpoint after each merge: if it fails, nobody is told, and the job ends."""
        spec = launch.spec
        self._save = save
        self.server = shard_server(
            spec.exchange,
            plan_bytes(spec),
            launch.index,
            spec.exchange.shards,
            sums=SUMS,
            weights=shares(spec),
            persist=self._persist,
        )
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def _persist(self) -> None:
        try:
            await self._save()
        except Exception as error:
            if not self._failed.done():
                self._failed.set_exception(error)
                # Where we are leaving already, nobody waits for it, and that is no error of its own.
                self._failed.exception()
            raise

    async def serve_until(self, end: Coroutine[Any, Any, None]) -> None:
        """Let trainers exchange until `end` has come.

        Raises:
            InputCorrupted: a trainer has shown that the host restored us from an old checkpoint.
            EnclaveError: a checkpoint could not be written; or what `end` raises.
        """
        coming = asyncio.create_task(end)
        rolled_back = asyncio.create_task(self.server.rolled_back.wait())
        try:
            waiting: set[asyncio.Future[Any]] = {coming, rolled_back, self._failed}
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._failed in done:
                self._failed.result()
            if coming in done:
                coming.result()
            if rolled_back in done:
                raise InputCorrupted(codes.CHECKPOINT_ROLLED_BACK, "the host served an old checkpoint")
        finally:
            coming.cancel()
            rolled_back.cancel()


@asynccontextmanager
async def listening(
    routes: Iterable[web.AbstractRouteDef], launch: LaunchSpec, context: ssl.SSLContext
) -> AsyncIterator[str]:
    """Serve `routes` at the launch's address, host:port, while the block lasts.

    Answers under way at its end are still given, but not if it ends by an error: then nobody may go on.
    """
    app = web.Application(client_max_size=MAX_ENROLMENT_BYTES, middlewares=[_problems])
    app.add_routes(routes)
    limits = _limits(launch.spec.exchange.trainers + launch.spec.exchange.shards)
    async with open_door(app, launch.listen_host, launch.listen_port, limits=limits, context=context) as door:
        host, port = door.address
        try:
            yield f"{host}:{port}"
        except BaseException:
            # The door is closed first, or a trainer that we hang up on would be back before we have left.
            await door.hang_up(_HANG_UP_S)
            raise


def _limits(peers: int) -> DoorLimits:
    """A door that has a place for each of the job's peers before it is one, should all be on one machine."""
    usual = DoorLimits()
    return replace(
        usual,
        connections=usual.connections + peers,
        connections_per_address=usual.connections_per_address + peers,
    )


@web.middleware
async def _problems(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except EnclaveError as error:
        _LOG.info("refused %s: %s", request.path, error.code)
        return refusal(403, error.code)
