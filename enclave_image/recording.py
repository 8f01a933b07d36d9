"""Recording a build in the transparency log, and the proof of it beside the image.

The proof lies in the image's directory and is not measured: a gateway hands it to owners whose policy demands
it, and they check it under the log's key, which they have from elsewhere.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from enclave_image.errors import LogCorrupted
from enclave_image.transparency_log import TransparencyLog
from runtime.wire.transparency import InclusionProof, LogEntry

INCLUSION_PROOF = "inclusion-proof.json"
MAX_PROOF_BYTES = 64 * 1024


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
        written = directory / f".{INCLUSION_PROOF}.new"
        written.write_text(proof.model_dump_json() + "\n")
        written.replace(directory / INCLUSION_PROOF)
        return proof


def read_proof(directory: Path) -> InclusionProof | None:
    """The proof beside an image or an Occlum instance; None where it was built without a log.

    It says nothing by itself: `runtime.transparency.proofs.check_inclusion` does.

    Raises:
        LogCorrupted: the file is there and is no proof.
    """
    try:
        with (directory / INCLUSION_PROOF).open("rb") as file:
            content = file.read(MAX_PROOF_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        if len(content) <= MAX_PROOF_BYTES:
            return InclusionProof.model_validate_json(content)
    except ValidationError:
        pass
    raise LogCorrupted(f"{directory / INCLUSION_PROOF} is no inclusion proof")
