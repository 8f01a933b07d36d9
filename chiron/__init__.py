"""Chiron: private machine learning as a service. Public names only, each imported when it is first used.

>>> from chiron import Client, JobRequest, policy_of

This module is in the enclave image too, where there is no client: importing it imports nothing (PEP 562).
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chiron.client.async_client import AsyncClient
    from chiron.client.client import Client
    from chiron.client.policies import policy_of
    from chiron.client.predictions import Predictions
    from chiron.client.ra_tls import attested_connector, attested_context
    from chiron.client.store import OwnerStore
    from chiron.wire.attestation import Role
    from chiron.wire.contract import Capability, CapabilityGrants
    from chiron.wire.errors import ChironError
    from chiron.wire.grants import PredictionPolicy
    from chiron.wire.jobs import Job, JobRequest

__all__ = [
    "AsyncClient",
    "Capability",
    "CapabilityGrants",
    "ChironError",
    "Client",
    "Job",
    "JobRequest",
    "OwnerStore",
    "PredictionPolicy",
    "Predictions",
    "Role",
    "attested_connector",
    "attested_context",
    "policy_of",
]

_MODULES = {
    "chiron.client.async_client": ("AsyncClient",),
    "chiron.client.client": ("Client",),
    "chiron.wire.errors": ("ChironError",),
    "chiron.client.policies": ("policy_of",),
    "chiron.client.predictions": ("Predictions",),
    "chiron.client.ra_tls": ("attested_connector", "attested_context"),
    "chiron.client.store": ("OwnerStore",),
    "chiron.wire.attestation": ("Role",),
    "chiron.wire.contract": ("Capability", "CapabilityGrants"),
    "chiron.wire.grants": ("PredictionPolicy",),
    "chiron.wire.jobs": ("Job", "JobRequest"),
}
"""The imports above once more, for the interpreter; a test holds the two together."""


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            value: object = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
