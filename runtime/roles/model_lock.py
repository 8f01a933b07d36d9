"""The lock of a predictor: its model stays sealed until the owner opens it, and is locked again in the end.

An opening is taken if

1. it is sealed to our key, and names our job and key;
2. its number is above that of every opening that was taken before;
3. its end has not come, by a clock that never runs back and is never before the owner's `issued_at`;
4. its share opens the stored model, which nobody else's does. What a wrong one costs is a key's derivation
   and 48 bytes that do not decrypt, however large the model is;
5. the owner that this model names signed it.

One that is not taken changes nothing, whoever sent it. What an opening before it let be asked is settled by
the next one, by its end, or when the predictor is closed for good.
"""

import asyncio
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from chiron.runtime.attestation.platform import Platform
from chiron.runtime.engine.model import RemoteModel
from chiron.runtime.engine.supply import Engines
from chiron.runtime.errors import ModelUnusable, OpeningRefused, PredictorLocked
from chiron.runtime.openings import check_owner, open_opening, seal_settlement, sign_settlement
from chiron.runtime.roles.askers import Askers
from chiron.runtime.roles.predictor_keys import PredictorKeys
from chiron.runtime.roles.sealed_model import ModelHeader, open_model
from chiron.runtime.roles.stored_model import StoredModel
from chiron.runtime.sealing.sealer import Sealer
from chiron.wire import codes
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import MODEL
from chiron.wire.opening import Opening, SignedOpening, SignedSettlement


@dataclass(frozen=True)
class OpenModel:
    """A model while it is open."""

    header: ModelHeader
    model: RemoteModel | None
    """None where it cannot be used, which only its owner may learn."""
    share: bytes
    askers: Askers
    until: int


@dataclass(frozen=True)
class _Settled:
    signed: SignedSettlement
    to_leave: bytes
    """The same, sealed for storage."""


class ModelLock:
    """One stored model, and whether it is open."""

    def __init__(
        self,
        spec: JobSpec,
        stored: StoredModel,
        platform: Platform,
        keys: PredictorKeys,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        engines: Engines | None = None,
    ) -> None:
        """`engines` gives the process that runs the model."""
        self._spec = spec
        self._stored = stored
        self._platform = platform
        self._keys = keys
        self._now = now
        self._engines = engines or Engines()
        self._latest = 0
        """Seconds since 1970: the clock is never before this."""
        self._number = 0
        self._open: OpenModel | None = None
        self._settled: _Settled | None = None
        """The last word on the opening before."""
        self._owner: bytes | None = None
        """Who opened the model first: it has no other owner."""
        self._closed = False
        self._opening = asyncio.Lock()

    @property
    def sealed(self) -> bytes:
        """The stored model."""
        return self._stored.sealed

    @property
    def owner(self) -> bytes | None:
        """The signing key of the model's owner, as long as the model is open."""
        opened = self._current()
        return opened.header.owner_signing_key if opened is not None else None

    def opened(self) -> OpenModel:
        """The open model.

        Raises:
            PredictorLocked: its owner has not opened it, or not any more.
        """
        opened = self._current()
        if opened is None or self._closed:
            raise PredictorLocked
        return opened

    async def open(self, sealed: bytes) -> bytes:
        """Take an opening; the settlement of the one before, sealed under the share.

        Raises:
            OpeningRefused: it is none of the model's owner's, or not for here and now.
            ModelUnusable: the stored model is not one of this job.
        """
        signed = await asyncio.to_thread(open_opening, sealed, self._keys.key, self._spec.job)
        # One at a time, so that the number that was checked is the last one still.
        async with self._opening:
            self._check(signed.opening)
            opened = await self._opened_by(signed)
            try:
                # Its end may have come meanwhile, or ours.
                self._check(signed.opening)
            except OpeningRefused:
                self._end(opened.model)
                raise
            self._lock(keep=opened.model)
            self._number, self._owner = signed.opening.number, opened.header.owner_signing_key
            self._latest = max(self._latest, signed.opening.issued_at)
            settled, self._settled = self._settled, None
            self._open = opened
        before = settled.signed if settled is not None else None
        return seal_settlement(before, opened.share, self._spec.job, answers=signed.opening)

    def hold(self) -> OpenModel:
        """The open model, of which nothing more is answered until `release`.

        Raises:
            PredictorLocked: its owner has not opened it, or not any more.
        """
        opened = self.opened()
        self._closed = True
        return opened

    def release(self) -> None:
        """Answer again after `hold`."""
        self._closed = False

    def close(self) -> bytes | None:
        """Lock the model for good; the settlement to leave in storage, None where it never was open."""
        self._closed = True
        self._lock()
        return self._settled.to_leave if self._settled is not None else None

    def _check(self, opening: Opening) -> None:
        if self._closed:
            raise OpeningRefused("model-given-away", "newer code answers for this model")
        if opening.number <= self._number:
            raise OpeningRefused(
                codes.OPENING_NOT_NEWER, "an opening of this number or a later one was taken"
            )
        if opening.until <= self.seconds(opening.issued_at):
            raise OpeningRefused("opening-expired", "the opening's end has come")

    async def _opened_by(self, signed: SignedOpening) -> OpenModel:
        try:
            return await self._unlocked(signed)
        except (OpeningRefused, ModelUnusable) as error:
            # One that was opened once is good, and stays.
            if error.code == "opening-unsigned" or self._owner is not None:
                raise
            if not await self._stored.read_again():
                raise
        return await self._unlocked(signed)

    async def _unlocked(self, signed: SignedOpening) -> OpenModel:
        opening, before = signed.opening, self._open
        if self._owner is not None:
            # Before a whole model is opened for whoever sent this.
            check_owner(signed, self._owner)
        if before is not None and hmac.compare_digest(before.share, opening.share):
            header, model = before.header, before.model
        else:
            header, onnx = await asyncio.to_thread(self._unsealed, opening.share)
            check_owner(signed, header.owner_signing_key)
            # Whether the engine takes this graph, only its owner may learn; and the model can still move on.
            model = await RemoteModel.load(onnx, self._spec, self._engines) if header.usable else None
        askers = Askers(opening, header.owner_signing_key, header.prediction, self._number)
        return OpenModel(header, model, opening.share, askers, opening.until)

    def _unsealed(self, share: bytes) -> tuple[ModelHeader, bytes]:
        try:
            return open_model(self._spec, self._stored.sealed, Sealer(self._platform, MODEL, share))
        except ModelUnusable as error:
            if error.code != "model-unreadable":
                raise
            raise OpeningRefused(codes.OPENING_SHARE_WRONG, "the share does not open the model") from error

    def _current(self) -> OpenModel | None:
        if self._open is not None and self.seconds() >= self._open.until:
            self._lock()
        return self._open

    def _lock(self, *, keep: RemoteModel | None = None) -> None:
        """Settle what was open, and forget the share, and the model unless it is to be kept."""
        if self._open is None:
            return
        settlement = sign_settlement(self._open.askers.settlement(), self._keys.tls_key)
        to_leave = seal_settlement(settlement, self._open.share, self._spec.job)
        self._settled = _Settled(settlement, to_leave)
        model, self._open = self._open.model, None
        if model is not keep:
            self._end(model)

    def _end(self, model: RemoteModel | None) -> None:
        """End a model that is not open."""
        if model is not None and (self._open is None or model is not self._open.model):
            model.end()

    def seconds(self, at_least: int = 0) -> int:
        """Seconds since 1970, by a clock that never runs back, whatever the host does to ours."""
        self._latest = max(self._latest, int(self._now().timestamp()))
        return max(self._latest, at_least)
