"""SIGSTRUCT: what an SGX enclave's author signed of it, MRENCLAVE among it; for a built Occlum instance.

Intel SDM volume 3D, table "Layout of Enclave Signature Structure". The signature over it is verified, so a
file that only looks like one is refused. Never tried on an instance that Occlum built: there is none here.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from chiron.enclave_image.errors import SigstructInvalid
from chiron.wire.bounded import read_file
from chiron.wire.errors import LimitExceeded

SIGNED_ENCLAVE = Path("build/lib/libocclum-libos.signed.so")
"""In an Occlum instance, after `occlum build`."""
SIZE = 1808
MAX_ENCLAVE_BYTES = 2**30
_HEADER = bytes.fromhex("06000000e10000000000010000000000")
_HEADER_2 = bytes.fromhex("01010000600000006000000001000000")
_HEADER_2_AT = 24
_MODULUS, _EXPONENT, _SIGNATURE = slice(128, 512), slice(512, 516), slice(516, 900)
_SIGNED = slice(0, 128), slice(900, 1028)
_ATTRIBUTES, _MRENCLAVE = slice(928, 944), slice(960, 992)
_PRODUCT, _SVN = slice(1024, 1026), slice(1026, 1028)
_DEBUG = 0x2


@dataclass(frozen=True)
class Sigstruct:
    """The parts that evidence of such an enclave shows, in lowercase hex where they are digests."""

    mrenclave: str
    mrsigner: str
    product_id: int
    svn: int
    debug: bool
    """Whether the author allows it to be started for debugging."""


def read_instance(instance: Path) -> Sigstruct:
    """SIGSTRUCT of the enclave in a built Occlum instance.

    Raises:
        SigstructInvalid: there is no signed enclave, or not exactly one is signed in it.
    """
    path = instance / SIGNED_ENCLAVE
    try:
        content = read_file(path, MAX_ENCLAVE_BYTES)
    except OSError as error:
        raise SigstructInvalid(f"{path} is not there: `occlum build` makes it") from error
    except LimitExceeded as error:
        raise SigstructInvalid(f"{path} is larger than any enclave") from error
    return find(content)


def find(enclave: bytes) -> Sigstruct:
    """The one SIGSTRUCT in a signed enclave's file; copies, as signing tools write for older loaders, agree.

    Raises:
        SigstructInvalid: there is none, one whose signature does not hold, or two that differ.
    """
    found = set()
    place = enclave.find(_HEADER)
    while place >= 0:
        if enclave[place + _HEADER_2_AT : place + _HEADER_2_AT + len(_HEADER_2)] == _HEADER_2:
            found.add(parse(enclave[place : place + SIZE]))
        place = enclave.find(_HEADER, place + 1)
    if len(found) != 1:
        raise SigstructInvalid(f"{len(found) or 'no'} enclaves are signed in this file, not one")
    return found.pop()


def parse(raw: bytes) -> Sigstruct:
    """One SIGSTRUCT, 1808 bytes.

    Raises:
        SigstructInvalid: another length or header, or its signature does not hold.
    """
    headers = raw[:16], raw[_HEADER_2_AT : _HEADER_2_AT + 16]
    if len(raw) != SIZE or headers != (_HEADER, _HEADER_2):
        raise SigstructInvalid("not a SIGSTRUCT")
    if int.from_bytes(raw[_EXPONENT], "little") != 3:
        raise SigstructInvalid("the key's exponent is not 3")
    signed = b"".join(raw[part] for part in _SIGNED)
    try:
        key = rsa.RSAPublicNumbers(3, int.from_bytes(raw[_MODULUS], "little")).public_key()
        key.verify(raw[_SIGNATURE][::-1], signed, padding.PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError) as error:
        raise SigstructInvalid("the signature over the enclave does not hold") from error
    return Sigstruct(
        mrenclave=raw[_MRENCLAVE].hex(),
        mrsigner=hashlib.sha256(raw[_MODULUS]).hexdigest(),
        product_id=int.from_bytes(raw[_PRODUCT], "little"),
        svn=int.from_bytes(raw[_SVN], "little"),
        debug=bool(raw[_ATTRIBUTES][0] & _DEBUG),
    )
