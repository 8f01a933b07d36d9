"""The owner's data: read from where it is, encrypted here, uploaded as ciphertext."""

from chiron.datasets.arrays import ArraySource
from chiron.datasets.bundle import Bundle
from chiron.datasets.encrypt import Encrypted, EncryptOptions, encrypt
from chiron.datasets.opening import SourceOptions, open_source
from chiron.datasets.source import Description, Source

__all__ = [
    "ArraySource",
    "Bundle",
    "Description",
    "EncryptOptions",
    "Encrypted",
    "Source",
    "SourceOptions",
    "encrypt",
    "open_source",
]
