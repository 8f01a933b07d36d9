"""The machines that an owner keeps what a job makes for, beside the one that it runs on.

On each, the enclave derives a key pair from the processor's sealing key, always the same. The public half
goes into grants, so that enclaves elsewhere can seal to it; only this code on that machine derives the other.
"""

import hashlib
from typing import Annotated

from pydantic import Field

from chiron.wire.attestation import Evidence, HpkePublicKey, Nonce
from chiron.wire.encoding import Base64, Identifier, WireModel
from chiron.wire.labels import MACHINE_NONCE, bind

MAX_MACHINES = 8
"""Machines of one grant, beside the one that a job runs on."""
MAX_RECIPE_BYTES = 64
NO_JOB: Identifier = "0" * 32
"""The job in a machine's evidence: it is of none."""

Recipe = Annotated[Base64, Field(max_length=MAX_RECIPE_BYTES)]
"""Public facts that a processor derives a sealing key from again (SGX: patch levels)."""


class MachineKey(WireModel):
    """What is sealed to it opens by one code on one machine."""

    public_key: HpkePublicKey
    recipe: Recipe
    """From it the machine derives the private half."""


class MachineDemand(WireModel):
    """POST /v1/machine: have an enclave of the current image tell this machine's key."""

    nonce: Nonce


class MachineEvidence(WireModel):
    """The answer: evidence of the role `machine`, which binds the key, and the recipe."""

    evidence: Evidence
    """Over `machine_nonce` of the nonce that was asked with and the recipe."""
    recipe: Recipe


def machine_nonce(nonce: bytes, recipe: bytes) -> bytes:
    """The nonce of a machine's evidence: it binds the recipe, too. 32 bytes."""
    return hashlib.sha256(bind(MACHINE_NONCE, nonce + recipe)).digest()
