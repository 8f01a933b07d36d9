"""What `chiron image build` and `chiron log` share: the log's key, and what is recorded of a build."""

from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.client.errors import ConfigurationInvalid
from chiron.enclave_image.recording import Recorder
from chiron.enclave_image.source_revision import LOCK, clean_revision
from chiron.wire.transparency import REVISION


def recorder(log: Path, key: Path, *, revision: str | None, lock: Path | None) -> Recorder:
    """What records builds in `log`; revision and lock are by default those of the checkout we run from.

    Raises:
        ConfigurationInvalid: the key, the lock or the revision is not one.
        SourceUnknown: no revision is given, and none names the source that is here.
    """
    private = log_key(key)
    try:
        digest = sha256((lock or LOCK).read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationInvalid(f"the lock cannot be read: {error.filename}; give --lock") from error
    if revision is not None and not REVISION.fullmatch(revision):
        raise ConfigurationInvalid("--revision is a git commit, in full")
    return Recorder(log, private, revision or clean_revision(), digest)


def log_key(path: Path) -> Ed25519PrivateKey:
    """The log's private key in a PEM file.

    Raises:
        ConfigurationInvalid: it holds none.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationInvalid(f"{path} holds no private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationInvalid(f"{path} holds no Ed25519 key")
    return key
