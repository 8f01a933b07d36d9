"""Who calls the enclave-facing API: enclaves that run, by their launch tokens."""

from typing import TYPE_CHECKING

from chiron.api.jobs.enclave import LaunchedEnclave
from chiron.wire.attestation import Role

if TYPE_CHECKING:
    from chiron.api.gateway import Gateway

ALL = frozenset(Role)
TRAINING = frozenset({Role.PARAMETER_SERVER, Role.SHARD, Role.TRAINER})
TRAINERS = frozenset({Role.TRAINER})
MAIL = frozenset({Role.PARAMETER_SERVER, Role.PREDICTOR})
"""Roles that owners have messages for."""


async def authenticate(gateway: "Gateway", token: str) -> LaunchedEnclave:
    """The enclave whose token it is; raises `Unauthenticated`."""
    return gateway.fleet.authenticate(token)
