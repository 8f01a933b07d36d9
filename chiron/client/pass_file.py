"""The file that a colleague is given: all that is needed to verify a predictor and to ask it under a pass.

Beside it, where the holder made a key of their own, the file with that key.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError, model_validator

from chiron.client.configuration import refuse_exposed
from chiron.client.errors import ConfigurationInvalid, PassUnusable
from chiron.client.schemas import Settled, of_older_record
from chiron.wire.apikeys import MAX_KEY_CHARACTERS
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.encoding import Base64, SigningPublicKey, WireModel, sha256_hex
from chiron.wire.jobs import JobSpec
from chiron.wire.opening import Pass

MAX_FILE_BYTES = 128 * 2**20
"""A job's spec holds one digest a chunk."""
MAX_KEY_FILE_BYTES = 1024
HOLDER_KEY_FORM = "chiron-holder-ed25519:"
"""What the public key of a holder begins with, where one person tells it another."""
_HolderKey = Annotated[Base64, Field(min_length=32, max_length=32)]


class PassFile(WireModel):
    """A pass and what goes with it. Secret where it holds the holder's key.

    Whoever alters it on its way cannot ask for more, but can name another gateway or enclave code: a holder
    takes it from the owner alone.
    """

    version: Literal[1] = 1
    allowed: Pass
    holder_key: _HolderKey | None = Field(default=None, repr=False)
    """The Ed25519 key that signs queries; None where the holder made one, and keeps it elsewhere."""
    owner_public_key: SigningPublicKey
    """The model's owner: a predictor of anybody else is not asked."""
    spec: JobSpec
    policy: AttestationPolicy
    """Which enclaves are acceptable, by the owner's word."""
    gateway: str = Field(pattern=r"^https?://\S+$", max_length=2000)
    api_key: str = Field(default="", max_length=MAX_KEY_CHARACTERS, repr=False)
    """For this job's predictor only, and for as long as the pass."""
    class_names: tuple[str, ...] = ()
    settled: Settled | None = None
    """How the training data was read and encoded: its holder finds columns by name, too."""

    _older = model_validator(mode="before")(of_older_record)

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.allowed.job != self.spec.job:
            raise ValueError("the pass is of another job")
        if self.holder_key is not None and public_key_of(self.holder_key) != self.allowed.holder:
            raise ValueError("the key is not the pass's holder's")
        return self

    @property
    def owner_key_sha256(self) -> str:
        """What a predictor's evidence names the owner by."""
        return sha256_hex(self.owner_public_key)


class HolderKey(WireModel):
    """A holder's own key, as it lies in a file. Secret."""

    version: Literal[1] = 1
    holder_key: _HolderKey = Field(repr=False)


def public_key_of(holder_key: bytes) -> bytes:
    """The public half of a holder's key."""
    return Ed25519PrivateKey.from_private_bytes(holder_key).public_key().public_bytes_raw()


def fingerprint(holder: bytes) -> str:
    """A holder's public key, short enough to be compared by people."""
    return sha256_hex(holder)[:16]


def write_pass(path: Path, content: PassFile | HolderKey) -> None:
    """Write a pass, or a holder's key, into a new file (0600).

    Raises:
        ConfigurationInvalid: there is such a file already, or it cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content.model_dump_json(indent=1))
    except FileExistsError:
        raise ConfigurationInvalid(f"{path} exists: name another file") from None
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be written: {error.strerror}") from error


def read_pass(path: Path) -> PassFile:
    """The pass in this file.

    Raises:
        PassUnusable: it is no pass, or too large.
        RecordUnusable: it holds a key, and others can read it.
    """
    content = _read(path, MAX_FILE_BYTES)
    try:
        read = PassFile.model_validate_json(content)
    except ValidationError:
        # From None: the validation error quotes the content, which may hold a key.
        raise PassUnusable(f"{path} is no pass of this version: ask for the file again") from None
    if read.holder_key is not None:
        refuse_exposed(path)
    return read


def read_holder_key(path: Path) -> bytes:
    """The holder's own key in this file.

    Raises:
        PassUnusable: there is none.
        RecordUnusable: others can read it.
    """
    content = _read(path, MAX_KEY_FILE_BYTES)
    refuse_exposed(path)
    try:
        return HolderKey.model_validate_json(content).holder_key
    except ValidationError:
        raise PassUnusable(f"{path} holds no key: `chiron share key` makes one") from None


def holder_named(text: str) -> bytes:
    """The public key in what `chiron share key` printed.

    Raises:
        ConfigurationInvalid: it is none.
    """
    try:
        key = base64.b64decode(text.removeprefix(HOLDER_KEY_FORM), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(HOLDER_KEY_FORM) or len(key) != 32:
        raise ConfigurationInvalid(
            f"a holder's key looks like {HOLDER_KEY_FORM}…: your colleague gets one from `chiron share key`"
        )
    return key


def holder_text(holder: bytes) -> str:
    """A holder's public key as one person tells it another."""
    return HOLDER_KEY_FORM + base64.b64encode(holder).decode()


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise PassUnusable(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise PassUnusable(f"{path} is no pass: it is longer than {limit} bytes")
    return content
