"""How values are written on the wire: base64 bytes, hex digests, canonical JSON (RFC 8785)."""

import base64
import binascii
import hashlib
from typing import Annotated

import rfc8785
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    WrapSerializer,
)


class WireModel(BaseModel):
    """A message that crosses a trust boundary: immutable, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _from_base64(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("not standard base64") from None


Base64 = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    PlainSerializer(lambda value: base64.b64encode(value).decode(), when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]
"""`bytes` in Python, standard base64 in JSON; a field gives its length bounds in bytes."""

IN_ORDER = WrapSerializer(lambda value, write: sorted(write(value)), when_used="json")
"""For a set: its elements in one order, or each process would write, and sign, another canonical JSON."""

SigningPublicKey = Annotated[Base64, Field(min_length=32, max_length=32)]
"""Ed25519."""

Signature = Annotated[Base64, Field(min_length=64, max_length=64)]
"""Ed25519."""

Share = Annotated[Base64, Field(min_length=32, max_length=32)]
"""The owner's half of a sealing key. Secret."""

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 as 64 lowercase hexadecimal digits."""

Identifier = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""A random 128-bit identifier as 32 lowercase hexadecimal digits."""


def canonical_json(model: BaseModel, *, exclude: set[str] | None = None) -> bytes:
    """The one byte string that stands for `model`, by RFC 8785; digests and signatures are over it."""
    return rfc8785.dumps(model.model_dump(mode="json", exclude=exclude))


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` in lowercase hex."""
    return hashlib.sha256(data).hexdigest()


def digest(model: BaseModel, *, exclude: set[str] | None = None) -> str:
    """SHA-256 of a model's canonical JSON."""
    return sha256_hex(canonical_json(model, exclude=exclude))
