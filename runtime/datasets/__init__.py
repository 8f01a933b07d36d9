"""Encrypted datasets: the chunk format, its writer (the owner's side) and its reader (inside an enclave)."""

from runtime.datasets.chunks import ChunkForm, Examples
from runtime.datasets.reader import EncryptedDataset, Fetch
from runtime.datasets.writer import DatasetWriter

__all__ = ["ChunkForm", "DatasetWriter", "EncryptedDataset", "Examples", "Fetch"]
