"""Reports and the outcome, sealed to the owner: padded JSON under HPKE, bound to the job and the name."""

from typing import TypeVar

from pydantic import ValidationError

from chiron.runtime.errors import OpenFailed, SealingError
from chiron.runtime.sealing import hpke
from chiron.runtime.sealing.padding import LENGTH_BYTES, pad, unpad
from chiron.wire.encoding import WireModel
from chiron.wire.labels import OUTCOME, REPORT, Label
from chiron.wire.reports import (
    OUTCOME_BYTES,
    OUTCOME_OBJECT,
    REPORT_BYTES,
    Outcome,
    TrainingReport,
    report_object,
)

_Message = TypeVar("_Message", bound=WireModel)


def seal_report(report: TrainingReport, *, job: str, owner_public_key: bytes) -> bytes:
    """The sealed object `report_object(report.exchange)`: of one size, whatever it says."""
    name = report_object(report.exchange)
    return _seal(report, REPORT_BYTES, REPORT, name, job, owner_public_key)


def open_report(sealed: bytes, exchange: int, *, job: str, owner_key: hpke.PrivateKey) -> TrainingReport:
    """The report of an exchange.

    Raises:
        OpenFailed: not sealed to this key as this job's report of this exchange.
    """
    return _open(sealed, TrainingReport, REPORT, report_object(exchange), job, owner_key)


def seal_outcome(outcome: Outcome, *, job: str, owner_public_key: bytes) -> bytes:
    """The sealed object `OUTCOME_OBJECT`: of one size, whatever it says."""
    return _seal(outcome, OUTCOME_BYTES, OUTCOME, OUTCOME_OBJECT, job, owner_public_key)


def open_outcome(sealed: bytes, *, job: str, owner_key: hpke.PrivateKey) -> Outcome:
    """The outcome of a job.

    Raises:
        OpenFailed: not sealed to this key as this job's outcome.
    """
    return _open(sealed, Outcome, OUTCOME, OUTCOME_OBJECT, job, owner_key)


def _seal(message: WireModel, size: int, label: Label, name: str, job: str, public_key: bytes) -> bytes:
    padded = pad(message.model_dump_json().encode(), size + LENGTH_BYTES)
    return hpke.seal(public_key, padded, label=label, context=_context(job, name))


def _open(
    sealed: bytes, model: type[_Message], label: Label, name: str, job: str, key: hpke.PrivateKey
) -> _Message:
    padded = hpke.open(key, sealed, label=label, context=_context(job, name))
    try:
        return model.model_validate_json(unpad(padded))
    except (ValidationError, SealingError) as error:
        raise OpenFailed("the sealed object opens, but is malformed") from error


def _context(job: str, name: str) -> bytes:
    return bytes.fromhex(job) + name.encode()
