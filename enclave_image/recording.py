"""A build on record: its entry in the transparency log, and the committed source that the entry names."""

import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.enclave_image.contents import OUR_ROOMS
from chiron.enclave_image.errors import SourceUnknown
from chiron.enclave_image.manifest import write_proof
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.wire.transparency import InclusionProof, LogEntry

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where our packages lie, and the lock beside them."""
LOCK = CHECKOUT / "requirements.lock"
_BUILT_FROM = (*OUR_ROOMS, "chiron/__init__.py", "enclave_image", "requirements.lock", "pyproject.toml")


@dataclass(frozen=True)
class Recorder:
    """Into which log builds go, and what is said of the source that they are made of."""

    log: Path
    key: Ed25519PrivateKey
    source_revision: str
    """Git commit, 40 or 64 hexadecimal digits."""
    lock_sha256: str

    def record(
        self,
        image_measurement: str,
        directory: Path,
        now: datetime,
        *,
        mrenclave: str | None = None,
        mrsigner: str | None = None,
    ) -> InclusionProof:
        """Append the build and write its proof into `directory`; one that is in the log is only proved again.

        `mrenclave` and `mrsigner` are what evidence will show under SGX, where code is not named by the
        image's own measurement.

        Raises:
            LogCorrupted: there is no log, it was changed, or the key is not its key.
            ValidationError: revision, lock digest or measurement is not one.
        """
        entry = LogEntry(
            version=1 if mrsigner is None else 2,
            measurement=mrenclave or image_measurement,
            image_measurement=image_measurement,
            source_revision=self.source_revision,
            lock_sha256=self.lock_sha256,
            signer=mrsigner,
        )
        proof = TransparencyLog.open(self.log).append(entry, self.key, now).prove_entry(entry)
        write_proof(directory, proof)
        return proof


def clean_revision(checkout: Path = CHECKOUT) -> str:
    """The git commit of `checkout`, if nothing that an image is built of differs from it.

    New files count too, as the build would take them in; documents, tests and the client's side do not.

    Raises:
        SourceUnknown: this is no git checkout, or it has changes that are not committed.
    """
    if Path(_git(checkout, "rev-parse", "--show-toplevel")) != checkout.resolve():
        # Installed somewhere in a checkout of something else.
        raise SourceUnknown(f"{checkout} is no git checkout of its own: give --revision")
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *_BUILT_FROM)
    if changed:
        raise SourceUnknown(f"not committed, so no revision names it: {changed.splitlines()[0].strip()}")
    return _git(checkout, "rev-parse", "HEAD")


def _git(checkout: Path, *arguments: str) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(checkout), *arguments],  # noqa: S607 - the builder's own git
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SourceUnknown(f"{checkout} is no git checkout: give --revision") from error
    return ended.stdout.strip()
