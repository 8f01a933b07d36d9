"""The leading trainer's checkpoint: what it knows besides its training, as each trial begins.

It is stored once a trial, after the builder has proposed its plan and before the plan is published. One that
is launched again takes up that trial with the same proposal, history and best candidate.
"""

import asyncio
import json
import struct

from pydantic import Field, ValidationError

from chiron.runtime.channels.enrolment import Ticket
from chiron.runtime.channels.gateway_client import GatewayClient
from chiron.runtime.errors import SealingError
from chiron.runtime.roles.plan import AdmittedPlan
from chiron.runtime.roles.selection import Selection
from chiron.runtime.roles.trainer_checkpoint import checkpoint_context, checkpoint_invalid
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire.contract import Trial
from chiron.wire.encoding import WireModel
from chiron.wire.objects import lead_checkpoint
from chiron.wire.reports import Outcome, TrainingReport

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
        self._stored = lead_checkpoint(ticket.spec)
        self._context = checkpoint_context(ticket)
        self._sealer = sealer
        self._gateway = gateway

    async def save(self, trial: int, selection: Selection, plan: AdmittedPlan | None) -> None:
        """Seal and store the state as it is.

        Raises:
            GatewayRefused, GatewayUnreachable: it could not be stored.
        """
        best = selection.best
        parts = (
            plan.published if plan else b"",
            best.plan.published if best else b"",
            best.onnx[: self._stored.part_bytes[2]] if best else b"",
        )
        state = LeadState(
            trial=trial,
            history=tuple(selection.history),
            why_none=selection.why_none,
            best_report=best.report if best else None,
            lengths=(len(parts[0]), len(parts[1]), len(parts[2])),
        )
        # Not pydantic's JSON, which has no NaN: a trial without validation has one.
        head = json.dumps(state.model_dump()).encode()
        content = (_LENGTH.pack(len(head)) + head).ljust(self._stored.head_bytes, b"\0") + b"".join(parts)
        size = self._stored.content_bytes
        sealed = await asyncio.to_thread(self._sealer.seal, content, size=size, context=self._context)
        await self._gateway.put_object(self._stored.name, sealed)

    async def load(self) -> tuple[LeadState, Parts] | None:
        """The stored state; None where there is none.

        Raises:
            InputCorrupted: what is stored is not a checkpoint of this job that we sealed.
        """
        sealed = await self._gateway.find_object(self._stored.name, self._stored.stored_bytes)
        if sealed is None:
            return None
        try:
            content = await asyncio.to_thread(self._sealer.open, sealed, context=self._context)
            (length,) = _LENGTH.unpack_from(content)
            state = LeadState.model_validate_json(content[_LENGTH.size : _LENGTH.size + length])
        except (SealingError, ValidationError, struct.error):
            raise checkpoint_invalid() from None
        at = self._stored.head_bytes
        first, second, third = state.lengths
        found = content[at:][:first], content[at + first :][:second], content[at + first + second :][:third]
        return state, found
