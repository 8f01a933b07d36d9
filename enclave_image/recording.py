"""Recording a build in the transparency log, and the proof of it beside the image."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chiron.enclave_image.inclusion_proof import write_proof
from chiron.enclave_image.transparency_log import TransparencyLog
from chiron.wire.transparency import InclusionProof, LogEntry


@dataclass(frozen=True)
class Recorder:
    """Into which log builds go, and what is said of the source that they are made of."""

    log: Path
    key: Ed25519PrivateKey
    source_revision: str
    """Git commit, 40 or 64 hexadecimal digits."""
    lock_sha256: str

    def record(
        self, image_measurement: str, directory: Path, now: datetime, *, mrenclave: str | None = None
    ) -> InclusionProof:
        """Append the build and write its proof into `directory`; one that is in the log is only proved again.

        `mrenclave` is what evidence will show where that is not the image's own measurement: under SGX.

        Raises:
            LogCorrupted: there is no log, it was changed, or the key is not its key.
            ValidationError: revision, lock digest or measurement is not one.
        """
        entry = LogEntry(
            measurement=mrenclave or image_measurement,
            image_measurement=image_measurement,
            source_revision=self.source_revision,
            lock_sha256=self.lock_sha256,
        )
        proof = TransparencyLog.open(self.log).append(entry, self.key, now).prove_entry(entry)
        write_proof(directory, proof)
        return proof
