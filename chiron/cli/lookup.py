"""What people type for a dataset, builder or job: an id, the beginning of one, a name or a path."""

from collections.abc import Iterable
from pathlib import Path

from chiron.client.client import Client
from chiron.client.datasets import Bundle
from chiron.client.errors import ConfigurationInvalid
from chiron.client.store import DatasetRecord, JobRecord, OwnerStore
from chiron.wire.builders import BuilderInfo

MIN_PREFIX = 4


def find_dataset(store: OwnerStore, text: str) -> DatasetRecord:
    """The dataset of this id, beginning of an id, or bundle directory.

    Raises:
        ConfigurationInvalid: none or several fit.
        RecordMissing: its key is not on this machine.
    """
    if Path(text).is_dir():
        return store.dataset(Bundle.open(Path(text)).manifest.dataset_id)
    known = {record.manifest.dataset_id: record for record in store.datasets()}
    return known[_unique(text, known, "dataset")]


def find_job(store: OwnerStore, text: str) -> JobRecord:
    """The job of this id or beginning of an id.

    Raises:
        ConfigurationInvalid: none or several fit.
    """
    known = {record.spec.job: record for record in store.jobs()}
    return known[_unique(text, known, "job")]


def find_builder(client: Client, text: str) -> BuilderInfo:
    """The builder of this digest, beginning of a digest, or name (the newest of that name).

    Raises:
        ConfigurationInvalid: none or several fit.
        GatewayError: the gateway does not list its builders.
    """
    builders = client.builders()
    named = [builder for builder in builders if builder.manifest.name == text]
    if named:
        return max(named, key=lambda builder: builder.created_at)
    known = {builder.sha256: builder for builder in builders}
    return known[_unique(text, known, "builder")]


def _unique(text: str, known: Iterable[str], noun: str) -> str:
    found = [name for name in known if name == text or (len(text) >= MIN_PREFIX and name.startswith(text))]
    if len(found) == 1:
        return found[0]
    problem = "is ambiguous" if found else "is not known here"
    raise ConfigurationInvalid(f"{noun} {text!r} {problem}", code=f"{noun}-not-found")
