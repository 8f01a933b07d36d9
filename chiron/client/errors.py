"""Errors of the data owner's client.

ChironError
├── ConfigurationMissing        no gateway address or API key was given
├── ConfigurationInvalid        a setting or an argument that cannot be meant
├── ExtraMissing                what was asked for needs packages that are not installed
├── StoreError
│   ├── RecordMissing           no such dataset or job in the owner's store
│   ├── DatasetInUse            a job of ours that has not ended reads the dataset
│   ├── LedgerMissing           what a job's predictors were lent is not known
│   ├── RecordUnusable          a record that is malformed, or readable by other users
│   └── HistoryAltered          a job's history whose lines do not follow from one another
├── PassUnusable                a file that is no pass, or no key to one
├── SourceInvalid               data that cannot be turned into a dataset
│   └── SourceDoubtful          it could be meant in more than one way: `doubts` says what settles it
├── BundleInvalid               an encrypted dataset on disk that is incomplete or altered
├── GatewayError                the gateway refused: `code` is the problem's code, passed through
│   ├── GatewayUnreachable      nobody answered
│   ├── SealedElsewhere         what is stored is not for the machine that it is to be opened on
│   └── GatewayMisbehaved       it answered something that its interface does not allow
├── PolicyMissing               nothing says which enclaves are acceptable, so none is
├── EvidenceRejected            evidence did not verify; `steps` tells how far it came
├── PeerNotAttested             a TLS peer whose certificate carries no evidence that holds (also an SSLError)
├── LogRejected                 a transparency log or proof did not verify
├── BuilderChanged              a builder's name stands for another digest than when it was granted
├── SpecMismatch                the gateway's job is not the one that was asked for
├── GrantImpossible             the grant of a job is not sent (again)
├── MachineRefused              a machine that does not go by the name that it is to have
├── JobEnded                    the job failed or was cancelled; `code` is the public failure
├── ReportUnreadable            a sealed report or outcome is not for this owner and job
├── UpgradeImpossible           nothing can take a model over, or nothing says from what
├── NotDirect                   the predictor has no address of its own
└── AnswerRefused               the predictor gave no answer; `code` says why
    └── ScoresNotFinite         its model has none for some rows; `predictions` has the others
"""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chiron.wire import codes
from chiron.wire.errors import ChironError

if TYPE_CHECKING:
    from chiron.client.datasets.understood import Doubt
    from chiron.client.predictions import Predictions
    from chiron.runtime.attestation.steps import StepResult


class ConfigurationMissing(ChironError):
    """Neither the environment nor the configuration file says it."""

    code = "configuration-missing"


class ConfigurationInvalid(ChironError):
    """A setting or an argument that cannot be meant."""

    code = "configuration-invalid"


class ExtraMissing(ChironError):
    """A package that is not installed; the message names the extra that brings it."""

    code = "extra-missing"


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """A block that imports packages which only this extra of ours brings, for `what`.

    Raises:
        ExtraMissing: one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "chiron").partition(".")[0] == "chiron":
            raise
        raise ExtraMissing(f"{what}: {error.name} is missing, pip install 'chiron-ml[{extra}]'") from error


class StoreError(ChironError):
    """The owner's store of keys and jobs."""

    code = "store-failed"


class RecordMissing(StoreError):
    """The owner's store has no such record."""

    code = "record-missing"


class DatasetInUse(StoreError):
    """A job of ours that has not ended may read the dataset still."""

    code = "dataset-in-use"


class LedgerMissing(StoreError):
    """A job's ledger is not in the store: how much was handed out is not known, so nothing is."""

    code = "ledger-missing"


class RecordUnusable(StoreError):
    """A record that cannot be read, or that others can read."""

    code = "record-unusable"


class PassUnusable(ChironError):
    """A file that is no pass, or a key that is not its holder's."""

    code = "pass-unusable"


class HistoryAltered(StoreError):
    """A job's history was changed after it was written; the message names the first line that shows it."""

    code = "history-altered"


class SourceInvalid(ChironError):
    """Data that cannot be turned into a dataset; the message names the place, never a value."""

    code = "source-invalid"


class SourceDoubtful(SourceInvalid):
    """Data that can be meant in more than one way. Nothing is guessed: `doubts` names the options."""

    code = "source-doubtful"

    def __init__(self, source: str, doubts: "Sequence[Doubt]") -> None:
        told = "".join(f"\n{doubt.says} → {' or '.join(doubt.settle)}" for doubt in doubts)
        super().__init__(f"{source} can be meant in more than one way; say which:{told}")
        self.doubts = tuple(doubts)


class BundleInvalid(ChironError):
    """An encrypted dataset on disk that is incomplete or altered."""

    code = "bundle-invalid"


class GatewayError(ChironError):
    """The gateway refused; `code` and `detail` are its own."""

    code = "gateway-error"

    def __init__(self, code: str, status: int, detail: str) -> None:
        super().__init__(f"the gateway answered {status}: {detail or code}", code=code)
        self.status = status
        self.detail = detail


class GatewayUnreachable(GatewayError):
    """Nobody answered at the gateway's address."""

    def __init__(self, url: str) -> None:
        super().__init__(codes.GATEWAY_UNREACHABLE, 0, f"no answer from {url}")
        self.args = (f"no answer from the gateway at {url}",)


class GatewayMisbehaved(GatewayError):
    """An answer that is malformed or too large."""

    def __init__(self, detail: str) -> None:
        super().__init__("gateway-misbehaved", 0, detail)
        self.args = (detail,)


class SealedElsewhere(GatewayError):
    """The enclave's machine has no part in the key: nothing of the owner's opens it there."""

    def __init__(self, status: int) -> None:
        super().__init__(codes.SEALED_ELSEWHERE, status, "sealed to other machines, or to other code")
        self.args = (
            "what the gateway stores is sealed to another machine, or to other code, than runs there now. "
            "Restored from a backup it needs the machine that it was made on (with the development TEE: the "
            "tee/ folder of its state directory) or one that its grant named (`chiron train --machines`), "
            "and the enclave image of then",
        )


class PolicyMissing(ChironError):
    """Nothing says which enclaves are acceptable."""

    code = "policy-missing"


class EvidenceRejected(ChironError):
    """Evidence did not verify: nothing was sent. `steps` ends with the one that refused."""

    def __init__(self, message: str, *, code: str, steps: "Sequence[StepResult]" = ()) -> None:
        super().__init__(message, code=code)
        self.steps = tuple(steps)


class PeerNotAttested(ChironError, ssl.SSLCertVerificationError):
    """The handshake ended here: nothing was sent. `steps` is empty where there was no evidence at all.

    It is an `ssl.SSLError` too, so that everything that speaks TLS ends the connection for it.
    """

    code = "peer-not-attested"

    def __init__(self, message: str, *, code: str, steps: "Sequence[StepResult]" = ()) -> None:
        super().__init__(message, code=code)
        self.steps = tuple(steps)


class LogRejected(ChironError):
    """A transparency log or proof did not verify."""

    code = "log-rejected"


class BuilderChanged(ChironError):
    """The gateway gives a builder's name to another component than when it was granted."""

    code = "builder-changed"


class SpecMismatch(ChironError):
    """The gateway's job is not the one that was asked for."""

    code = "spec-mismatch"


class GrantImpossible(ChironError):
    """A grant that is not sent again: there is none, it or its job is over, or too many were asked for."""

    code = "grant-impossible"


class MachineRefused(ChironError):
    """The name is another machine's already."""

    code = "machine-refused"


class JobEnded(ChironError):
    """The job ended without a model."""

    code = "job-ended"


class ReportUnreadable(ChironError):
    """A sealed report or outcome that is not for this owner and job."""

    code = "report-unreadable"


class UpgradeImpossible(ChironError):
    """A model cannot move: nothing says what it is sealed to, or that code is not to be had."""

    code = "upgrade-impossible"


class NotDirect(ChironError):
    """The operator gives predictors no address of their own."""

    code = "not-direct"


class AnswerRefused(ChironError):
    """The predictor gave no answer."""

    code = "answer-refused"


class ScoresNotFinite(AnswerRefused):
    """The model's scores for some rows are no numbers, and no class either; `predictions` has the others."""

    code = "scores-not-finite"

    def __init__(self, predictions: "Predictions") -> None:
        rows = (~predictions.told).nonzero()[0].tolist()
        shown = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
        super().__init__(f"the model's score is not a finite number for {len(rows)} rows: {shown}, from 0")
        self.predictions = predictions
