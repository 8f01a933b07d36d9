"""Reports and the outcome, sealed to the owner: padded JSON under HPKE, bound to the job and the name."""

from typing import TypeVar

from pydantic import ValidationError

from chiron.runtime.errors import OpenFailed, SealingError
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.padding import LENGTH_BYTES, pad, unpad
from chiron.wire import objects
from chiron.wire.encoding import WireModel
from chiron.wire.labels import OUTCOME, REPORT, Label
from chiron.wire.objects import StoredObject
from chiron.wire.reports import Outcome, TrainingReport

_Message = TypeVar("_Message", bound=WireModel)


def seal_report(report: TrainingReport, *, job: str, owner_public_key: bytes) -> bytes:
    """The object `chiron.wire.objects.report(report.exchange)`: of one size, whatever it says."""
    return _seal(report, objects.report(report.exchange), REPORT, job, owner_public_key)


def open_report(sealed: bytes, exchange: int, *, job: str, owner_key: hpke.PrivateKey) -> TrainingReport:
    """The report of an exchange.

    Raises:
        OpenFailed: not sealed to this key as this job's report of this exchange.
    """
    return _open(sealed, TrainingReport, objects.report(exchange), REPORT, job, owner_key)


def seal_outcome(outcome: Outcome, *, job: str, owner_public_key: bytes) -> bytes:
    """The object `chiron.wire.objects.outcome()`: of one size, whatever it says."""
    return _seal(outcome, objects.outcome(), OUTCOME, job, owner_public_key)


def open_outcome(sealed: bytes, *, job: str, owner_key: hpke.PrivateKey) -> Outcome:
    """The outcome of a job.

    Raises:
        OpenFailed: not sealed to this key as this job's outcome.
    """
    return _open(sealed, Outcome, objects.outcome(), OUTCOME, job, owner_key)


def _seal(message: WireModel, stored: StoredObject, label: Label, job: str, public_key: bytes) -> bytes:
    padded = pad(message.model_dump_json().encode(), stored.content_bytes + LENGTH_BYTES)
    return hpke.seal(public_key, padded, label=label, context=_context(job, stored.name))


def _open(
    sealed: bytes, model: type[_Message], stored: StoredObject, label: Label, job: str, key: hpke.PrivateKey
) -> _Message:
    padded = hpke.open(key, sealed, label=label, context=_context(job, stored.name))
    try:
        return model.model_validate_json(unpad(padded))
    except (ValidationError, SealingError) as error:
        raise OpenFailed("the sealed object opens, but is malformed") from error


def _context(job: str, name: str) -> bytes:
    return bytes.fromhex(job) + name.encode()
