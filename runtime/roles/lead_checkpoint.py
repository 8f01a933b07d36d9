"""The leading trainer's checkpoint: what it knows besides its training, as each trial begins.

It is stored once a trial, after the builder has proposed its plan and before the plan is published. One that
is launched again takes up that trial with the same proposal, history and best candidate.
"""

import asyncio
import json
import struct
from collections.abc import Sequence

from pydantic import Field, ValidationError

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway import GatewayClient
from chiron.runtime.errors import SealingError
from chiron.runtime.roles.sealed_model import padded_size
from chiron.runtime.roles.trainer_checkpoint import checkpoint_context, checkpoint_invalid
from chiron.runtime.schedule import plan_bytes
from chiron.runtime.sealing.sealer import OVERHEAD_BYTES, Sealer
from chiron.wire.contract import Trial
from chiron.wire.encoding import WireModel
from chiron.wire.jobs import JobSpec
from chiron.wire.reports import Outcome, TrainingReport

LEAD_CHECKPOINT_OBJECT = "checkpoint-lead"
HEAD_BYTES = 32 * 1024
TRIAL_BYTES = 320 * 1024
"""Room for one trial of the history. A recipe has at most 64 KiB, and its numbers written out in full are not
five times as long (1e15 becomes 1000000000000000.0)."""
_LENGTH = struct.Struct("<I")


class LeadState(WireModel):
    """All that is kept but bytes, whose lengths are here."""

    trial: int = Field(ge=0, le=63)
    history: tuple[Trial, ...] = Field(max_length=64)
    why_none: Outcome
    best_report: TrainingReport | None
    lengths: tuple[int, int, int]


Parts = tuple[bytes, bytes, bytes]
"""What is proposed for this trial and the best candidate so far, both as published; the candidate's model."""


class LeadCheckpoint:
    """Saves and loads a job's `LeadState`."""

    def __init__(self, ticket: Ticket, sealer: Sealer, gateway: GatewayClient) -> None:
        self._spec: JobSpec = ticket.spec
        self._context = checkpoint_context(ticket)
        self._sealer = sealer
        self._gateway = gateway
        trials = self._spec.trials
        self._rooms = (plan_bytes(self._spec), 0, 0)
        if trials > 1:
            # One byte more than a model may have: one that is too large stays too large.
            self._rooms = (plan_bytes(self._spec), plan_bytes(self._spec), padded_size(self._spec) + 1)
        self._head_bytes = HEAD_BYTES + (trials - 1) * TRIAL_BYTES
        self._size = self._head_bytes + sum(self._rooms)

    async def save(
        self,
        trial: int,
        history: Sequence[Trial],
        why_none: Outcome,
        best_report: TrainingReport | None,
        parts: Parts,
    ) -> None:
        """Seal and store the state as it is.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        parts = (parts[0], parts[1], parts[2][: self._rooms[2]])
        state = LeadState(
            trial=trial,
            history=tuple(history),
            why_none=why_none,
            best_report=best_report,
            lengths=(len(parts[0]), len(parts[1]), len(parts[2])),
        )
        # Not pydantic's JSON, which has no NaN: a trial without validation has one.
        head = json.dumps(state.model_dump()).encode()
        content = (_LENGTH.pack(len(head)) + head).ljust(self._head_bytes, b"\0") + b"".join(parts)
        sealed = await asyncio.to_thread(self._sealer.seal, content, size=self._size, context=self._context)
        await self._gateway.put_object(LEAD_CHECKPOINT_OBJECT, sealed)

    async def load(self) -> tuple[LeadState, Parts] | None:
        """The stored state; None where there is none.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this job that we sealed.
        """
        sealed = await self._gateway.find_object(LEAD_CHECKPOINT_OBJECT, self._size + OVERHEAD_BYTES)
        if sealed is None:
            return None
        try:
            content = await asyncio.to_thread(self._sealer.open, sealed, context=self._context)
            (length,) = _LENGTH.unpack_from(content)
            state = LeadState.model_validate_json(content[_LENGTH.size : _LENGTH.size + length])
        except (SealingError, ValidationError, struct.error):
            raise checkpoint_invalid() from None
        at = self._head_bytes
        first, second, third = state.lengths
        found = content[at:][:first], content[at + first :][:second], content[at + first + second :][:third]
        return state, found
