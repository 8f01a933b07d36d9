"""Chiron: private machine learning as a service. Public names only, each imported when it is first used.

>>> from chiron import Client, JobRequest, policy_of

This module is in the enclave image too, where there is no client: importing it imports nothing (PEP 562).
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chiron.client.async_client import AsyncClient
    from chiron.client.datasets.bundle import Bundle
    from chiron.client.datasets.encrypt import Encrypted, EncryptOptions, encrypt
    from chiron.client.datasets.opening import SourceOptions, open_source
    from chiron.client.datasets.rows import Rows, RowsOptions, read_rows
    from chiron.client.datasets.sources import ArraySource, Description, Source
    from chiron.client.datasets.understood import Doubt, Understood
    from chiron.client.errors import (
        AnswerRefused,
        BuilderChanged,
        BundleInvalid,
        ConfigurationInvalid,
        ConfigurationMissing,
        DatasetInUse,
        EvidenceRejected,
        ExtraMissing,
        GatewayError,
        GatewayMisbehaved,
        GatewayUnreachable,
        GrantImpossible,
        HistoryAltered,
        JobEnded,
        LedgerMissing,
        LogRejected,
        MachineRefused,
        NotDirect,
        PassUnusable,
        PeerNotAttested,
        PolicyMissing,
        RecordMissing,
        RecordUnusable,
        ReportUnreadable,
        ScoresNotFinite,
        SealedElsewhere,
        SourceDoubtful,
        SourceInvalid,
        SpecMismatch,
        StoreError,
        UpgradeImpossible,
    )
    from chiron.client.opening import Opened
    from chiron.client.pass_file import PassFile, write_pass
    from chiron.client.pass_holder import PassHolder
    from chiron.client.predictions import Predictions, PredictorSession
    from chiron.client.ra_tls import attested_connector, attested_context
    from chiron.client.sharing import PassState, PassTerms
    from chiron.client.store import DatasetRecord, JobRecord, OwnerStore
    from chiron.client.sync_client import Client, Predictor
    from chiron.client.training import Created, Finished, Granted, Progressed, Stage, Verified
    from chiron.client.verifying import policy_of
    from chiron.runtime.attestation.steps import Step, StepResult
    from chiron.runtime.attestation.verify import VerifiedEvidence
    from chiron.runtime.errors import AnswerMalformed, AnswerUnreadable, RowsInvalid
    from chiron.wire.attestation import AttestationPolicy, Role
    from chiron.wire.contract import Capability, CapabilityGrants, InputType, Oblivious, Task
    from chiron.wire.enclave_api import Observation
    from chiron.wire.errors import ChironError
    from chiron.wire.exchange import ExchangeMode, ExchangeTerms
    from chiron.wire.grants import Grant, PredictionPolicy, Restarts
    from chiron.wire.jobs import Job, JobRequest, JobState
    from chiron.wire.public_api import BuilderInfo
    from chiron.wire.reports import Outcome, OutcomeStatus, TrainingReport

__all__ = [
    "AnswerMalformed",
    "AnswerRefused",
    "AnswerUnreadable",
    "ArraySource",
    "AsyncClient",
    "AttestationPolicy",
    "BuilderChanged",
    "BuilderInfo",
    "Bundle",
    "BundleInvalid",
    "Capability",
    "CapabilityGrants",
    "ChironError",
    "Client",
    "ConfigurationInvalid",
    "ConfigurationMissing",
    "Created",
    "DatasetInUse",
    "DatasetRecord",
    "Description",
    "Doubt",
    "EncryptOptions",
    "Encrypted",
    "EvidenceRejected",
    "ExchangeMode",
    "ExchangeTerms",
    "ExtraMissing",
    "Finished",
    "GatewayError",
    "GatewayMisbehaved",
    "GatewayUnreachable",
    "Grant",
    "GrantImpossible",
    "Granted",
    "HistoryAltered",
    "InputType",
    "Job",
    "JobEnded",
    "JobRecord",
    "JobRequest",
    "JobState",
    "LedgerMissing",
    "LogRejected",
    "MachineRefused",
    "NotDirect",
    "Oblivious",
    "Observation",
    "Opened",
    "Outcome",
    "OutcomeStatus",
    "OwnerStore",
    "PassFile",
    "PassHolder",
    "PassState",
    "PassTerms",
    "PassUnusable",
    "PeerNotAttested",
    "PolicyMissing",
    "PredictionPolicy",
    "Predictions",
    "Predictor",
    "PredictorSession",
    "Progressed",
    "RecordMissing",
    "RecordUnusable",
    "ReportUnreadable",
    "Restarts",
    "Role",
    "Rows",
    "RowsInvalid",
    "RowsOptions",
    "ScoresNotFinite",
    "SealedElsewhere",
    "Source",
    "SourceDoubtful",
    "SourceInvalid",
    "SourceOptions",
    "SpecMismatch",
    "Stage",
    "Step",
    "StepResult",
    "StoreError",
    "Task",
    "TrainingReport",
    "Understood",
    "UpgradeImpossible",
    "Verified",
    "VerifiedEvidence",
    "attested_connector",
    "attested_context",
    "encrypt",
    "open_source",
    "policy_of",
    "read_rows",
    "write_pass",
]

_MODULES = {
    "chiron.client.async_client": ("AsyncClient",),
    "chiron.client.datasets.bundle": ("Bundle",),
    "chiron.client.datasets.encrypt": (
        "EncryptOptions",
        "Encrypted",
        "encrypt",
    ),
    "chiron.client.datasets.opening": (
        "SourceOptions",
        "open_source",
    ),
    "chiron.client.datasets.rows": (
        "Rows",
        "RowsOptions",
        "read_rows",
    ),
    "chiron.client.datasets.sources": (
        "ArraySource",
        "Description",
        "Source",
    ),
    "chiron.client.datasets.understood": (
        "Doubt",
        "Understood",
    ),
    "chiron.client.errors": (
        "AnswerRefused",
        "BuilderChanged",
        "BundleInvalid",
        "ConfigurationInvalid",
        "ConfigurationMissing",
        "DatasetInUse",
        "EvidenceRejected",
        "ExtraMissing",
        "GatewayError",
        "GatewayMisbehaved",
        "GatewayUnreachable",
        "GrantImpossible",
        "HistoryAltered",
        "JobEnded",
        "LedgerMissing",
        "LogRejected",
        "MachineRefused",
        "NotDirect",
        "PassUnusable",
        "PeerNotAttested",
        "PolicyMissing",
        "RecordMissing",
        "RecordUnusable",
        "ReportUnreadable",
        "ScoresNotFinite",
        "SealedElsewhere",
        "SourceDoubtful",
        "SourceInvalid",
        "SpecMismatch",
        "StoreError",
        "UpgradeImpossible",
    ),
    "chiron.client.opening": ("Opened",),
    "chiron.client.pass_file": (
        "PassFile",
        "write_pass",
    ),
    "chiron.client.pass_holder": ("PassHolder",),
    "chiron.client.predictions": (
        "Predictions",
        "PredictorSession",
    ),
    "chiron.client.ra_tls": (
        "attested_connector",
        "attested_context",
    ),
    "chiron.client.sharing": (
        "PassState",
        "PassTerms",
    ),
    "chiron.client.store": (
        "DatasetRecord",
        "JobRecord",
        "OwnerStore",
    ),
    "chiron.client.sync_client": (
        "Client",
        "Predictor",
    ),
    "chiron.client.training": (
        "Created",
        "Finished",
        "Granted",
        "Progressed",
        "Stage",
        "Verified",
    ),
    "chiron.client.verifying": ("policy_of",),
    "chiron.runtime.attestation.steps": (
        "Step",
        "StepResult",
    ),
    "chiron.runtime.attestation.verify": ("VerifiedEvidence",),
    "chiron.runtime.errors": (
        "AnswerMalformed",
        "AnswerUnreadable",
        "RowsInvalid",
    ),
    "chiron.wire.attestation": (
        "AttestationPolicy",
        "Role",
    ),
    "chiron.wire.public_api": ("BuilderInfo",),
    "chiron.wire.contract": (
        "Capability",
        "CapabilityGrants",
        "InputType",
        "Oblivious",
        "Task",
    ),
    "chiron.wire.enclave_api": ("Observation",),
    "chiron.wire.errors": ("ChironError",),
    "chiron.wire.exchange": (
        "ExchangeMode",
        "ExchangeTerms",
    ),
    "chiron.wire.grants": (
        "Grant",
        "PredictionPolicy",
        "Restarts",
    ),
    "chiron.wire.jobs": (
        "Job",
        "JobRequest",
        "JobState",
    ),
    "chiron.wire.reports": (
        "Outcome",
        "OutcomeStatus",
        "TrainingReport",
    ),
}
"""The imports above once more, for the interpreter; a test holds the two together."""
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:
    # Not for type checkers, which would then believe in any name.
    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
