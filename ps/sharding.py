"""One exchange over several servers: each holds a slice of the vector; a client speaks to all at once.

The first shard also carries the plan and the sums, and its trial and exchange are the job's. Whether a change
is finite, and how long it is, a client says of the whole vector to every shard, so that all set it aside or
clip it alike.

Each server keeps its state before it answers, so after a crash no shard knows of less than a client has seen.
But one may have merged an exchange that another still waits for: whoever takes up a job starts at the lower
one, and the shard that is ahead answers it from its last merge.
"""

import asyncio
import math
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

import aiohttp
import numpy as np
from numpy.typing import NDArray

from chiron.ps.client import PATIENCE_S, Agreed, Merged, ParameterClient, Start
from chiron.ps.exchange import Persist
from chiron.ps.server import ParameterServer
from chiron.ps.transport import Reconnect
from chiron.ps.vectors import read_only
from chiron.wire.exchange import ExchangeSpec, shard_slice, shard_spec

_T = TypeVar("_T")


def shard_server(
    spec: ExchangeSpec,
    plan_bytes: int,
    index: int,
    shards: int,
    *,
    sums: int = 64,
    weights: Sequence[float] | None = None,
    persist: Persist | None = None,
) -> ParameterServer:
    """A `ParameterServer` for shard `index`: plan and sums are the first one's only."""
    first = index == 0
    return ParameterServer(
        shard_spec(spec, index, shards),
        plan_bytes if first else 0,
        sums=sums if first else 0,
        weights=weights,
        persist=persist,
    )


class ShardedClient:
    """Does what `ParameterClient` does, over several servers."""

    def __init__(
        self,
        sessions: Sequence[aiohttp.ClientSession],
        urls: Sequence[str],
        spec: ExchangeSpec,
        plan_bytes: int,
        *,
        sums: int = 64,
        patience_s: float = PATIENCE_S,
        reconnects: Sequence[Reconnect] | None = None,
    ) -> None:
        """One session, URL and, if servers can be found again, `Reconnect` for each shard, in order."""
        shards = len(urls)
        self._slices = [shard_slice(spec.parameters, index, shards) for index in range(shards)]
        self._vector = np.zeros(spec.parameters, np.float32)
        self._clients = [
            ParameterClient(
                session,
                url,
                shard_spec(spec, index, shards),
                plan_bytes if index == 0 else 0,
                sums=sums if index == 0 else 0,
                patience_s=patience_s,
                reconnect=reconnects[index] if reconnects else None,
                memory=self._vector[self._slices[index]],
            )
            for index, (session, url) in enumerate(zip(sessions, urls, strict=True))
        ]

    @property
    def kept(self) -> dict[str, NDArray[np.float32]]:
        """What a checkpoint of this client must hold, of all shards."""
        kept = (client.kept.items() for client in self._clients)
        return {f"{name}{index}": array for index, items in enumerate(kept) for name, array in items}

    def resume(self, trial: int, merged: int) -> NDArray[np.float32]:
        """Go on as a client that has the result of `merged` exchanges and is in `trial`."""
        for client in self._clients:
            client.resume(trial, merged)
        return read_only(self._vector)

    async def publish(self, trial: int, plan: bytes, vector: NDArray[np.float32]) -> None:
        """Publish the plan and initial vector of `trial`, at the first shard first: none is ahead of it."""
        await self._clients[0].publish(trial, plan, vector[self._slices[0]])
        rest = zip(self._clients[1:], self._slices[1:], strict=True)
        await _together(client.publish(trial, b"", vector[part]) for client, part in rest)

    async def start(self, trial: int) -> Start:
        """Begin or take up `trial`, at the earliest exchange that any shard still has to merge."""
        starts = await _together(client.start(trial) for client in self._clients)
        return Start(starts[0].plan, read_only(self._vector), min(start.exchange for start in starts))

    async def agree(self, trial: int, rung: int) -> Agreed:
        """Agree on a slot with the other trainers, at the first shard: as `ParameterClient.agree`."""
        return await self._clients[0].agree(trial, rung)

    async def exchange(
        self, number: int, vector: NDArray[np.float32] | None, sums: NDArray[np.float64]
    ) -> Merged:
        """Push the change to all shards and wait for the others: as `ParameterClient.exchange`."""
        norm = None if vector is None else await self._prepare(vector)
        nothing = np.zeros(0)
        merged = await _together(
            client.push(number, norm, sums if index == 0 else nothing)
            for index, client in enumerate(self._clients)
        )
        return Merged(
            read_only(self._vector),
            merged[0].sums,
            merged[0].exchange,
            max(one.excluded for one in merged),
            any(one.set_aside for one in merged),
        )

    async def _prepare(self, vector: NDArray[np.float32]) -> float | None:
        """Lay the change into all frames; the norm of the whole, None if it is not finite."""
        parts = zip(self._clients, self._slices, strict=True)
        norms = await _together(client.prepare(vector[part]) for client, part in parts)
        known = [norm for norm in norms if norm is not None]
        return math.hypot(*known) if len(known) == len(norms) else None


async def _together(work: Iterable[Awaitable[_T]]) -> list[_T]:
    """The results of all; if one fails, the others are ended first: a client does one thing at a time."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
