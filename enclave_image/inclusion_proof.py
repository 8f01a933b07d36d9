"""The proof beside an image, or an Occlum instance, that its build is in a transparency log.

It lies in the directory and is not measured: a gateway hands it to owners whose policy demands it, and they
check it under the log's key, which they have from elsewhere.
"""

from pathlib import Path

from pydantic import ValidationError

from chiron.enclave_image.errors import LogCorrupted
from chiron.wire.bounded import read_file
from chiron.wire.errors import LimitExceeded
from chiron.wire.transparency import InclusionProof

INCLUSION_PROOF = "inclusion-proof.json"
MAX_PROOF_BYTES = 64 * 1024


def write_proof(directory: Path, proof: InclusionProof) -> None:
    """Put it there, in place of an earlier one, whole or not at all."""
    written = directory / f".{INCLUSION_PROOF}.new"
    written.write_text(proof.model_dump_json() + "\n")
    written.replace(directory / INCLUSION_PROOF)


def read_proof(directory: Path) -> InclusionProof | None:
    """The proof beside an image or an Occlum instance; None where it was built without a log.

    It says nothing by itself: `chiron.runtime.transparency.proofs.check_inclusion` does.

    Raises:
        LogCorrupted: the file is there and is no proof.
    """
    try:
        return InclusionProof.model_validate_json(read_file(directory / INCLUSION_PROOF, MAX_PROOF_BYTES))
    except FileNotFoundError:
        return None
    except (LimitExceeded, ValidationError) as error:
        raise LogCorrupted(f"{directory / INCLUSION_PROOF} is no inclusion proof") from error
