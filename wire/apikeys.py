"""The form of a gateway's API keys, which gateway and owner share: an owner can make one by herself."""

import re
import secrets
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import StringConstraints

from chiron.wire.encoding import sha256_hex

KEY = re.compile(r"chiron_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
"""A key's id, which may be told, and its secret of 256 random bits."""
TENANT = r"[a-z0-9][a-z0-9-]{0,62}"
"""The name of a gateway's tenant: whose key it is, and who published a builder."""
MAX_KEY_CHARACTERS = 100
TenantName = Annotated[str, StringConstraints(pattern=f"^{TENANT}$")]
KeyId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True)
class NewKey:
    """A key that was just made."""

    id: str
    text: str = field(repr=False)
    secret_sha256: str
    """All that a gateway needs to know the key again."""


def new_key() -> NewKey:
    """A random key."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    return NewKey(key_id, f"chiron_{key_id}_{secret}", sha256_hex(secret.encode()))
