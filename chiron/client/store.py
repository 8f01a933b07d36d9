"""The owner's secrets on the owner's machine: dataset keys, job records and their keys, one 0600 file each.

Nothing here ever leaves it but inside a sealed grant or opening. Losing a dataset's record means encrypting
again; losing a job's record means losing its reports and its model, which opens with the record's share only.
"""

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field, ValidationError, model_validator

from chiron.client.configuration import default_home, refuse_exposed
from chiron.client.errors import RecordMissing, RecordUnusable
from chiron.client.schemas import Settled, of_older_record
from chiron.runtime.sealing.hpke import PRIVATE_KEY_BYTES, PrivateKey
from chiron.runtime.sealing.stream import KEY_BYTES
from chiron.wire.attestation import AttestationPolicy
from chiron.wire.contract import CapabilityGrants
from chiron.wire.datasets import DatasetManifest
from chiron.wire.encoding import Base64, Digest, Identifier, Share, WireModel, sha256_hex
from chiron.wire.grants import PredictionPolicy, Restarts
from chiron.wire.jobs import JobSpec
from chiron.wire.labels import OWNER_SIGNING
from chiron.wire.machines import MAX_MACHINES, MachineKey
from chiron.wire.private import private_directory

_Record = TypeVar("_Record", bound=WireModel)


class DatasetRecord(WireModel):
    """A record of an encrypted dataset, with its key."""

    manifest: DatasetManifest
    key: Annotated[Base64, Field(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    class_names: tuple[str, ...] = ()
    """Names of the classes in the order of their indices; they are never uploaded."""
    settled: Settled | None = None
    """How the data was read and encoded, names included; never uploaded either."""
    bundle: Path
    """Where the ciphertext was written."""
    held_out: Path | None = None
    """Plaintext rows kept back for testing (npz), on this machine only."""

    _older = model_validator(mode="before")(of_older_record)


class GrantTerms(WireModel):
    """What a job was granted: with the keys, all that the same grant is made of again."""

    capabilities: CapabilityGrants = CapabilityGrants()
    prediction: PredictionPolicy = PredictionPolicy()
    restarts: Restarts = Restarts.OWNER
    machines: tuple[MachineKey, ...] = Field(default=(), max_length=MAX_MACHINES)
    issued_at: int = Field(ge=0, lt=2**37)
    expires_at: int = Field(ge=0, lt=2**37)


class JobKeys(WireModel):
    """The secrets of a job: a small file that is written once, while the rest of its record changes.

    Whoever destroys that file has destroyed every copy of them that this store ever made.
    """

    owner_key: Annotated[Base64, Field(min_length=PRIVATE_KEY_BYTES, max_length=PRIVATE_KEY_BYTES)]
    share: Share


class JobRecord(WireModel):
    """A record of a job, with the key that its reports are sealed to."""

    spec: JobSpec
    owner_key: Annotated[Base64, Field(min_length=PRIVATE_KEY_BYTES, max_length=PRIVATE_KEY_BYTES)]
    share: Share
    """Our half of the key that model, budget and checkpoints are sealed under: nobody opens them without."""
    policy: AttestationPolicy | None = None
    """What the parameter server was verified against; set when the grant was sent."""
    terms: GrantTerms | None = None
    """What it was granted; None until then."""
    ended: bool = False
    """The job is over, as far as we were told: its grant is not sent again."""
    class_names: tuple[str, ...] = ()
    settled: Settled | None = None
    """How the training data was read and encoded, so that new rows are the same way."""

    _older = model_validator(mode="before")(of_older_record)

    @property
    def private_key(self) -> PrivateKey:
        """The key that reports and the outcome are sealed to."""
        return PrivateKey.from_bytes(self.owner_key)

    @property
    def signing_key(self) -> Ed25519PrivateKey:
        """The key that a model is known to be ours by, and that signs its upgrades."""
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=OWNER_SIGNING).derive(self.owner_key)
        return Ed25519PrivateKey.from_private_bytes(derived)

    @property
    def signing_public_key(self) -> bytes:
        """The signing key's public half, 32 bytes."""
        return self.signing_key.public_key().public_bytes_raw()


class BuilderRecord(WireModel):
    """The builder that was granted under a name."""

    name: str = Field(max_length=200)
    """As `publisher/name@version`."""
    sha256: Digest


class OwnerStore:
    """Directory of records; created 0700 on first use."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_home()

    def save_dataset(self, record: DatasetRecord) -> Path:
        """Write a dataset's record."""
        return self._save("datasets", record.manifest.dataset_id, record)

    def dataset(self, dataset_id: str) -> DatasetRecord:
        """A dataset's record.

        Raises:
            RecordMissing, RecordUnusable: there is none, or it cannot be trusted.
        """
        return self._load("datasets", dataset_id, DatasetRecord)

    def datasets(self) -> Iterator[DatasetRecord]:
        """All datasets' records."""
        return self._all("datasets", DatasetRecord)

    def knows_job(self, job_id: str) -> bool:
        """Whether there is a record of this job."""
        return (self.root / "jobs" / f"{job_id}.json").exists()

    def save_job(self, record: JobRecord) -> Path:
        """Write a job's record; its keys into a file of their own, which stays as it is from then on."""
        keys, place = JobKeys(owner_key=record.owner_key, share=record.share), self._keys(record.spec.job)
        if not place.exists() or read_private(place, JobKeys) != keys:
            self.directory("keys")
            write_private(place, keys.model_dump_json().encode())
        return self._save("jobs", record.spec.job, record, without=frozenset(JobKeys.model_fields))

    def job(self, job_id: str) -> JobRecord:
        """A job's record.

        Raises:
            RecordMissing, RecordUnusable: there is none, or it cannot be trusted.
        """
        path = self._existing("jobs", job_id)
        refuse_exposed(path)
        try:
            keys = read_private(self._keys(job_id), JobKeys).model_dump(mode="json")
            return JobRecord.model_validate_json(json.dumps({**json.loads(path.read_bytes()), **keys}))
        except FileNotFoundError:
            raise RecordUnusable(f"the keys of job {job_id} are gone: {self._keys(job_id)}") from None
        except (ValueError, TypeError):
            # From None: the error quotes the content, which holds keys.
            raise RecordUnusable(f"{path} is not a record of this version") from None

    def note_ended(self, job_id: str) -> None:
        """Remember that a job is over, if there is a record of it. There is no way back."""
        if self.knows_job(job_id):
            record = self.job(job_id)
            if not record.ended:
                self.save_job(record.model_copy(update={"ended": True}))

    def job_ids(self) -> list[str]:
        """The ids of all jobs that there are records of."""
        return sorted(path.stem for path in (self.root / "jobs").glob("*.json"))

    def jobs(self) -> Iterator[JobRecord]:
        """All jobs' records."""
        return (self.job(job_id) for job_id in self.job_ids())

    def save_builder(self, record: BuilderRecord) -> Path:
        """Write down which builder a name stands for."""
        return self._save("builders", _place_of(record.name), record)

    def builder(self, name: str) -> BuilderRecord | None:
        """The builder that this name stood for when it was granted last; None if it never was.

        Raises:
            RecordUnusable: the record cannot be trusted.
        """
        try:
            return self._load("builders", _place_of(name), BuilderRecord)
        except RecordMissing:
            return None

    def directory(self, *parts: str) -> Path:
        """A private directory below the root, made if need be.

        Raises:
            DirectoryNotOurs: it is another user's.
        """
        path = private_directory(self.root)
        for part in parts:
            path = private_directory(path / part)
        return path

    def files_of(self, kind: str, name: Identifier) -> list[Path]:
        """A record's files, that with keys first; and what a crash while one was written left beside it."""
        place = self.root / kind / f"{name}.json"
        places = [self._keys(name), place] if kind == "jobs" else [place]
        return [
            found
            for path in places
            for pattern in (path.name, f".{path.name}.*")
            for found in path.parent.glob(pattern)
        ]

    def _keys(self, job: Identifier) -> Path:
        return self.root / "keys" / f"{job}.json"

    def _save(
        self, kind: str, name: Identifier, record: WireModel, without: frozenset[str] = frozenset()
    ) -> Path:
        path = self.directory(kind) / f"{name}.json"
        write_private(path, record.model_dump_json(indent=1, exclude=set(without)).encode())
        # After the write: a tombstone that comes later still is followed by a look for records.
        if self.tombstone_path(kind, name).exists():
            for file in self.files_of(kind, name):
                shred(file)
            raise RecordMissing(f"{name} was forgotten meanwhile: nothing was written down of it")
        return path

    def tombstone_path(self, kind: str, name: Identifier) -> Path:
        """Where it says that a record was forgotten; what has a tombstone is never saved again."""
        return self.root / "forgotten" / f"{kind}-{name}.json"

    def _load(self, kind: str, name: str, model: type[_Record]) -> _Record:
        return read_private(self._existing(kind, name), model)

    def _existing(self, kind: str, name: str) -> Path:
        path = self.root / kind / f"{name}.json"
        if not name.isalnum() or not path.exists():
            raise RecordMissing(f"this machine's store has no record of {name} ({self.root / kind})")
        return path

    def _all(self, kind: str, model: type[_Record]) -> Iterator[_Record]:
        for path in sorted((self.root / kind).glob("*.json")):
            yield read_private(path, model)


def _place_of(name: str) -> str:
    """A file's name for any text."""
    return sha256_hex(name.encode())[:32]


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def shred(path: Path) -> None:
    """Overwrite a file in place, sync, and remove it; then sync the folder. Fine if it is gone already."""
    try:
        with path.open("r+b", buffering=0) as file:
            file.write(secrets.token_bytes(os.fstat(file.fileno()).st_size))
            os.fsync(file.fileno())
    except FileNotFoundError:
        return
    path.unlink(missing_ok=True)
    if os.name == "nt":
        # Windows opens no folders; NTFS orders the removal itself.
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private(path: Path, model: type[_Record]) -> _Record:
    """Read what `write_private` wrote.

    Raises:
        RecordUnusable: others can read the file, or it is malformed.
    """
    refuse_exposed(path)
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError:
        # From None: the validation error quotes the content, which holds keys.
        raise RecordUnusable(f"{path} is not a record of this version") from None
