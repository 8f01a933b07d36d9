"""A trainer's side of the exchange: push the local change, get the vector to go on with.

Whatever breaks between trainer and server is retried with the same frame until `patience_s` has passed; the
server answers a repeated exchange from its last merge, so a retry changes nothing.
"""

import asyncio
import math
from dataclasses import dataclass

import aiohttp
import numpy as np
from numpy.typing import NDArray

from chiron.ps.codec import (
    HEADER_BYTES,
    LOWEST_VERSION,
    VERSION,
    Flag,
    Hello,
    Kind,
    Layout,
)
from chiron.ps.errors import ExchangeRefused
from chiron.ps.streams import Body
from chiron.ps.transport import Reconnect, Transport
from chiron.ps.vectors import (
    BLOCK,
    Frame,
    as_bytes,
    blocks,
    clear_tiny,
    euclidean_norm,
    narrow,
    new_frame,
    read_only,
    widen,
)
from chiron.wire import codes, paths
from chiron.wire.exchange import ExchangeSpec, spec_digest

PATIENCE_S = 120.0
"""How long the server may be away (a restart) before a trainer gives up."""


@dataclass(frozen=True)
class Start:
    """What a trainer begins or takes up a trial from."""

    plan: bytes
    vector: NDArray[np.float32]
    """[parameters], read-only: the trial's initial vector, or the present one if the trial is under way."""
    exchange: int
    """The number of the exchange that is due next."""


@dataclass(frozen=True)
class Merged:
    """The outcome of an exchange."""

    vector: NDArray[np.float32]
    """[parameters], read-only, and the client's own memory: the next exchange overwrites it."""
    sums: NDArray[np.float64]
    """[sums]: element by element the sum of what the trainers sent."""
    exchange: int
    """The exchange that was merged last; later than the one asked for if the others went on without us."""
    excluded: int
    """How many trainers' changes were set aside because they were not finite (or, `async`, too old)."""
    set_aside: bool
    """Whether this trainer's change was set aside."""


@dataclass(frozen=True)
class Agreed:
    """What the trainers have agreed on for their slots."""

    rung: int
    """Place on the ladder."""
    raised: bool
    """It was raised once, and stays."""


class ParameterClient:
    """One trainer's connection to the parameter server. Not for concurrent use."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        spec: ExchangeSpec,
        plan_bytes: int,
        *,
        sums: int = 64,
        patience_s: float = PATIENCE_S,
        reconnect: Reconnect | None = None,
        memory: NDArray[np.float32] | None = None,
    ) -> None:
        """`reconnect` is asked for a session and URL whenever a connection broke.

        `memory`, float32 [parameters] and contiguous, is where the merged vector is kept; ours by default.
        """
        self._layout = Layout.of(spec, plan_bytes, sums)
        self._digest = spec_digest(spec, plan_bytes, sums)
        self._transport = Transport(session, url, self._hello, patience_s, reconnect)
        self._trial = -1
        self._merged = 0
        """How many exchanges `_base` is the result of."""
        self._base = np.zeros(spec.parameters, np.float32) if memory is None else memory
        """The vector as of the last merge, or as we started."""
        is_narrow = spec.dtype == "bfloat16"
        self._keeps = is_narrow or spec.clip_norm is not None
        self._frame: Frame = new_frame(spec.parameters, narrow=is_narrow)
        self._step = np.zeros(spec.parameters if is_narrow else 0, np.uint16)
        self._owed = np.zeros(spec.parameters if is_narrow else 0, np.float32)
        """bfloat16 only: the rounding error of our changes so far, added to the next (error feedback)."""

    @property
    def kept(self) -> dict[str, NDArray[np.float32]]:
        """What a checkpoint of this client must hold: the live memory itself, of one size a spec.

        Where every change stands for itself nothing: the server gives the vector again. Rounding errors
        that are owed, and the norm of a change over shards of which some have merged it, need more.
        """
        return {"base": self._base, "owed": self._owed} if self._keeps else {}

    def resume(self, trial: int, merged: int) -> NDArray[np.float32]:
        """Go on as a client that has the result of `merged` exchanges and is in `trial`.

        Called before `start`, it makes the greeting say so, and a server that was rolled back is found out;
        after it, with `kept` filled, the next exchange is what it would have been. Returns the vector
        [parameters] to go on from, read-only.
        """
        self._trial, self._merged = trial, merged
        return read_only(self._base)

    def _hello(self) -> Hello:
        return Hello(LOWEST_VERSION, VERSION, self._digest, self._trial, self._merged)

    async def publish(self, trial: int, plan: bytes, vector: NDArray[np.float32]) -> None:
        """Give all trainers the plan and initial vector of `trial`; for the leading trainer only.

        `plan` has at most plan_bytes bytes, `vector` at most `parameters` elements; both are padded.

        Raises:
            ExchangeRefused: the server does not take it from us, or not now.
            ServerUnreachable: the server stayed away.
        """
        header = self._layout.header(Kind.PUBLISH, trial=trial, plan_length=len(plan))
        head = self._layout.pack_plan(header, plan)
        self._base[: len(vector)] = vector
        self._base[len(vector) :] = 0
        clear_tiny(self._base)

        async def attempt() -> None:
            payload = as_bytes(self._base)
            async with self._transport.post(paths.EXCHANGE_PUBLISH, head, payload, HEADER_BYTES) as answer:
                self._layout.expect(await answer.read(HEADER_BYTES), Kind.PUBLISHED)

        await self._transport.persist(attempt)
        self._trial = trial

    async def start(self, trial: int) -> Start:
        """Wait until `trial` is published, and begin it, or take it up where the others are.

        Raises:
            TrialOver: a later trial is under way.
            ServerUnreachable: the server stayed away.
        """
        head = self._layout.header(Kind.START, trial=trial).pack()

        async def attempt() -> Start:
            size = self._layout.publish_bytes
            async with self._transport.post(paths.EXCHANGE_START, head, memoryview(b""), size) as answer:
                header, plan = self._layout.parse_plan(
                    await answer.read(self._layout.plan_head_bytes), Kind.STARTED
                )
                await answer.into(as_bytes(self._base))
            return Start(plan, read_only(self._base), header.exchange)

        started = await self._transport.persist(attempt)
        self._trial, self._merged = trial, started.exchange
        self._owed.fill(0)
        return started

    async def agree(self, trial: int, rung: int) -> Agreed:
        """Propose a place on the ladder of slots for a trial, and wait for the others' proposals.

        Raises:
            ServerUnreachable: the server stayed away.
        """
        head = self._layout.header(Kind.SLOT, trial=trial, exchange=rung).pack()

        async def attempt() -> Agreed:
            nothing = memoryview(b"")
            async with self._transport.post(paths.EXCHANGE_SLOT, head, nothing, HEADER_BYTES) as answer:
                header = self._layout.expect(await answer.read(HEADER_BYTES), Kind.AGREED)
            return Agreed(header.exchange, raised=header.excluded > 0)

        return await self._transport.persist(attempt)

    async def exchange(
        self, number: int, vector: NDArray[np.float32] | None, sums: NDArray[np.float64]
    ) -> Merged:
        """Push what local training changed since the last merge; wait for the others; the merged vector.

        `vector` is float32 of at most `parameters` elements, `sums` float64 [sums]. A change that is not
        finite is sent as zeros and counted as set aside, for the frame's size must not tell of it; so is
        one that was not ready in time, None.

        Raises:
            TrialOver: the trial ended without us; start the next one.
            ExchangeRefused: the exchange is not due.
            ServerUnreachable: the server stayed away.
        """
        norm = None if vector is None else await self.prepare(vector)
        return await self.push(number, norm, sums)

    async def prepare(self, vector: NDArray[np.float32]) -> float | None:
        """Lay the change into the frame: the first half of `exchange`. Its norm; None: it is not finite."""
        return await asyncio.to_thread(self._prepare, vector)

    async def push(self, number: int, norm: float | None, sums: NDArray[np.float64]) -> Merged:
        """Send what was prepared: the second half of `exchange`.

        `norm` is over all shards; None sets the change aside.
        """
        if norm is None:
            self._frame.fill(0)
            self._owed.fill(0)
        header = self._layout.header(
            Kind.PUSH,
            trial=self._trial,
            exchange=number,
            norm=norm if norm is not None else 0.0,
            flags=Flag.NONE if norm is not None else Flag.SET_ASIDE,
        )
        head = self._layout.pack_head(header, sums)

        async def attempt() -> Merged:
            payload = as_bytes(self._frame)
            async with self._transport.post(
                paths.EXCHANGE_PUSH, head, payload, self._layout.push_bytes
            ) as answer:
                return await self._receive(answer)

        try:
            return await self._transport.persist(attempt)
        except ExchangeRefused as error:
            if error.code != codes.ANSWER_LOST:
                raise
            # Merged, but `async` servers do not keep answers over a restart.
            start = await self.start(self._trial)
            return Merged(start.vector, np.zeros_like(sums), start.exchange - 1, 0, set_aside=False)

    def _prepare(self, vector: NDArray[np.float32]) -> float | None:
        """Lay the change into the frame; its norm, or None where it is not finite."""
        if len(self._owed):
            norm = self._prepare_narrow(vector)
        else:
            used = len(vector)
            frame: NDArray[np.float32] = self._frame  # type: ignore[assignment]
            with np.errstate(invalid="ignore", over="ignore"):
                np.subtract(vector, self._base[:used], out=frame[:used])
            frame[used:] = 0
            clear_tiny(frame)
            norm = euclidean_norm(frame)
        return norm if math.isfinite(norm) else None

    def _prepare_narrow(self, vector: NDArray[np.float32]) -> float:
        """bfloat16 with error feedback: what rounding takes from this change is added to the next."""
        frame: NDArray[np.uint16] = self._frame  # type: ignore[assignment]
        frame[len(vector) :] = 0
        scratch = np.empty(min(BLOCK, len(vector)), np.float32)
        total = 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            for part in blocks(len(vector)):
                change = scratch[: part.stop - part.start]
                owed = self._owed[part]
                np.subtract(vector[part], self._base[part], out=change)
                change += owed
                clear_tiny(change)
                total += float(np.dot(change, change))
                narrow(change, frame[part])
                widen(frame[part], owed)
                np.subtract(change, owed, out=owed)
        return math.sqrt(total) if total >= 0 else math.nan

    async def _receive(self, answer: Body) -> Merged:
        header, sums = self._layout.parse_head(await answer.read(self._layout.head_bytes), Kind.MERGED)
        if not len(self._owed):
            await answer.into(as_bytes(self._base))
        else:
            await answer.into(as_bytes(self._step))
            if header.exchange == self._merged:
                await asyncio.to_thread(self._take_step)
            elif header.exchange > self._merged:
                # The others went on without us, and this step does not lead on from our vector.
                await self.start(self._trial)
        self._merged = header.exchange + 1
        return Merged(
            read_only(self._base),
            sums,
            header.exchange,
            header.excluded,
            bool(header.flags & Flag.SET_ASIDE),
        )

    def _take_step(self) -> None:
        scratch = np.empty(min(BLOCK, len(self._base)), np.float32)
        for part in blocks(len(self._base)):
            step = scratch[: part.stop - part.start]
            widen(self._step[part], step)
            self._base[part] += step
