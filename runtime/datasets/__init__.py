"""Encrypted datasets: the chunk format, its writer (the owner's side) and its reader (inside an enclave)."""

from chiron.runtime.datasets.chunks import ChunkForm, Examples
from chiron.runtime.datasets.encrypted import DatasetWriter, EncryptedDataset, Fetch

__all__ = ["ChunkForm", "DatasetWriter", "EncryptedDataset", "Examples", "Fetch"]
