"""Chiron for data owners: train on data that nobody else can see, with a model that you need not see.

>>> from chiron import Client, JobRequest, policy_of
"""

from chiron.async_client import AsyncClient
from chiron.client import Client
from chiron.errors import ChironError
from chiron.policies import policy_of
from chiron.predictions import Predictions
from chiron.ra_tls import attested_connector, attested_context
from chiron.store import OwnerStore
from runtime.wire.attestation import Role
from runtime.wire.grants import PredictionPolicy
from runtime.wire.jobs import Job, JobRequest
from wasm_sandbox.contract import Capability, CapabilityGrants

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
