"""The owner's data: read from where it is, encrypted here, uploaded as ciphertext."""

from chiron.client.datasets.bundle import Bundle
from chiron.client.datasets.encrypt import Encrypted, EncryptOptions, encrypt
from chiron.client.datasets.opening import SourceOptions, as_source, open_source
from chiron.client.datasets.sources import ArraySource, Description, Source

__all__ = [
    "ArraySource",
    "Bundle",
    "Description",
    "EncryptOptions",
    "Encrypted",
    "Source",
    "SourceOptions",
    "as_source",
    "encrypt",
    "open_source",
]
