"""The rows that stay with the owner: a plain .npz of `x` and `y` in the owner's own store, mode 0600."""

import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from chiron.client.datasets.source import Source
from chiron.client.store import OwnerStore

_BATCH = 256


def write_held_out(source: Source, rows: NDArray[np.int64], store: OwnerStore, dataset_id: str) -> Path:
    """Write these rows of a source, batch by batch; returns the file's path.

    Raises:
        SourceInvalid: a row cannot be read.
    """
    path = store.directory("held-out") / f"{dataset_id}.npz"
    description = source.description
    targets = []
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        with archive.open("x.npy", "w", force_zip64=True) as member:
            shape = (len(rows), *description.input_shape)
            _write_header(member, np.dtype(description.input_dtype.value), shape)
            for examples in source.read(rows, _BATCH):
                member.write(np.ascontiguousarray(examples.x).tobytes())
                targets.append(examples.y)
        with archive.open("y.npy", "w") as member:
            np.lib.format.write_array(member, np.concatenate(targets))
    return path


def _write_header(file: IO[bytes], dtype: "np.dtype[np.generic]", shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
