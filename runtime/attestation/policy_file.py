"""The attestation policy as a file that people read: TOML, or JSON where the name does not end in .toml.

The fields are `AttestationPolicy`'s; two name files beside it instead of holding bytes:
`software_root_file` (PEM or DER) and `transparency.proof_files` (inclusion proofs, JSON). The log's key may
be hexadecimal, as `chiron log create` prints it.
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from chiron.runtime.errors import PolicyInvalid
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.bounded import read_file
from chiron.wire.errors import LimitExceeded

MAX_FILE_BYTES = 1024 * 1024
_HEX_KEY = re.compile(r"[0-9a-fA-F]{64}")


def load_policy(path: Path) -> AttestationPolicy:
    """The policy in a file.

    Raises:
        PolicyInvalid: a file cannot be read, or does not follow the schema; the message names the field.
    """
    raw = _read(path)
    try:
        fields = tomllib.loads(raw.decode()) if path.suffix == ".toml" else json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PolicyInvalid(f"{path.name} is neither TOML nor JSON, or malformed") from error
    if not isinstance(fields, dict):
        raise PolicyInvalid(f"{path.name} holds no policy")
    _follow_files(fields, path.parent)
    try:
        return AttestationPolicy.model_validate(fields)
    except ValidationError as error:
        raise PolicyInvalid(f"{path.name}: {_reasons(error)}") from error


def load_root(path: Path) -> bytes:
    """DER of a root certificate in a PEM or DER file.

    Raises:
        PolicyInvalid: it holds none.
    """
    raw = _read(path)
    load = x509.load_pem_x509_certificate if raw.startswith(b"-----") else x509.load_der_x509_certificate
    try:
        return load(raw).public_bytes(Encoding.DER)
    except ValueError as error:
        raise PolicyInvalid(f"{path.name} is not a root certificate") from error


def _follow_files(fields: dict[str, Any], directory: Path) -> None:
    """Replace the names of files by what is in them."""
    root = fields.pop("software_root_file", None)
    if root is not None:
        if "software_root" in fields:
            raise PolicyInvalid("software_root and software_root_file are both given")
        fields["software_root"] = load_root(_beside(directory, root))
    log = fields.get("transparency")
    if isinstance(log, dict) and _HEX_KEY.fullmatch(str(log.get("log_public_key"))):
        log["log_public_key"] = bytes.fromhex(log["log_public_key"])
    if isinstance(log, dict) and "proof_files" in log:
        names = log.pop("proof_files")
        if not isinstance(names, list) or "proofs" in log:
            raise PolicyInvalid("transparency.proof_files is a list of file names, and no proofs beside it")
        try:
            log["proofs"] = [json.loads(_read(_beside(directory, name))) for name in names]
        except (ValueError, RecursionError) as error:
            raise PolicyInvalid("a file of transparency.proof_files is not JSON") from error


def _beside(directory: Path, name: object) -> Path:
    if not isinstance(name, str):
        raise PolicyInvalid("a file is named by a string")
    return directory / name


def _read(path: Path) -> bytes:
    try:
        return read_file(path, MAX_FILE_BYTES)
    except OSError as error:
        raise PolicyInvalid(f"{path.name}: {error.strerror}") from error
    except LimitExceeded as error:
        raise PolicyInvalid(f"{path.name} is too large") from error
    except ValueError as error:
        raise PolicyInvalid("a file's name holds a character that no file's name can hold") from error


def _reasons(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, part['loc'])) or 'policy'}: {part['msg']}" for part in error.errors()
    )
