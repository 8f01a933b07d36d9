"""What an enclave and the development TEE's quoting service say over their Unix socket.

Each message is a 4-byte little-endian length and that many bytes of JSON.
"""

import struct
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from chiron.wire.attestation import Collateral
from chiron.wire.encoding import Base64, WireModel

MAX_REQUEST_BYTES = 4096
MAX_REPLY_BYTES = 1024 * 1024
LENGTH = struct.Struct("<I")


class SealingPolicy(StrEnum):
    """What a sealing key is bound to."""

    MEASUREMENT = "measurement"
    SIGNER = "signer"


class QuoteRequest(WireModel):
    """Quote these 64 bytes of report data."""

    kind: Literal["quote"] = "quote"
    report_data: Annotated[Base64, Field(min_length=64, max_length=64)]


class SealingKeyRequest(WireModel):
    """Derive a sealing key."""

    kind: Literal["sealing-key"] = "sealing-key"
    policy: SealingPolicy
    label: Annotated[Base64, Field(min_length=1, max_length=64)]


class QuotingRequest(WireModel):
    """Either request."""

    request: Annotated[QuoteRequest | SealingKeyRequest, Field(discriminator="kind")]


class QuotingReply(WireModel):
    """A quote with its collateral, or a sealing key."""

    quote: Base64 | None = None
    collateral: Collateral | None = None
    sealing_key: Annotated[Base64, Field(min_length=32, max_length=32)] | None = None


def frame(message: WireModel) -> bytes:
    """One message as it goes over the socket."""
    body = message.model_dump_json().encode()
    return LENGTH.pack(len(body)) + body
