"""Images in class folders, in a directory or a zip file: in `cats/1.png` the folder names the class."""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from chiron.client.datasets.sources import Description
from chiron.client.datasets.understood import ClassCount, Understood
from chiron.client.errors import SourceInvalid
from chiron.runtime.datasets import Examples
from chiron.wire.contract import InputType, Task

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
MAX_IMAGE_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
"""An image that claims more is refused before it is decompressed."""


class _Files(Protocol):
    """A place that images' bytes come from."""

    def names(self) -> list[str]:
        """Relative paths of all files, with slashes."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def read(self, name: str) -> bytes:
        """A file's content."""
        ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        return [path.relative_to(self._root).as_posix() for path in self._root.rglob("*") if path.is_file()]

    def size(self, name: str) -> int:
        return (self._root / name).stat().st_size

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class _Zip:
    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise SourceInvalid(f"{path.name} is not a readable zip file") from error

    def names(self) -> list[str]:
        return [info.filename for info in self._archive.infolist() if not info.is_dir()]

    def size(self, name: str) -> int:
        return self._archive.getinfo(name).file_size

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


class ImageSource:
    """uint8 images [channels, height, width], scaled to one size, of a classification by folder name."""

    def __init__(self, path: Path, *, size: tuple[int, int] | None = None, grey: bool | None = None) -> None:
        """`size` is (width, height); it and `grey` default to what the first image is.

        Raises:
            SourceInvalid: no class folders, fewer than two of them, or a first image that cannot be read.
        """
        self._files: _Files = _Folder(path) if path.is_dir() else _Zip(path)
        found = sorted(filter(_is_image, self._files.names()))
        self._names = [name for name in found if len(PurePosixPath(name).parts) >= 2]
        folders = [PurePosixPath(name).parent.name for name in self._names]
        classes = sorted(set(folders))
        if len(classes) < 2:
            raise SourceInvalid(f"{path.name} has {len(classes)} class folders with images; two are needed")
        index = {name: number for number, name in enumerate(classes)}
        self._labels = np.array([index[folder] for folder in folders], np.int64)
        first = _open(self._files, self._names[0])
        self._mode = "L" if (first.mode in ("1", "L") if grey is None else grey) else "RGB"
        self._size = size or first.size
        shape = (1 if self._mode == "L" else 3, self._size[1], self._size[0])
        self.description = Description(
            task=Task.CLASSIFICATION,
            input_shape=shape,
            input_dtype=InputType.UINT8,
            examples=len(self._names),
            class_names=tuple(classes),
            told=self._understood(path.name, shape, classes),
        )

    def _understood(self, source: str, shape: tuple[int, ...], classes: list[str]) -> Understood:
        counts = zip(classes, np.bincount(self._labels), strict=True)
        return Understood(
            source=source,
            rows=len(self._names),
            task=Task.CLASSIFICATION,
            task_why="folders name the classes",
            input_shape=shape,
            input_dtype=InputType.UINT8.value,
            classes=tuple(ClassCount(name, int(count)) for name, count in counts),
        )

    def read(self, rows: NDArray[np.int64], size: int) -> Iterator[Examples]:
        """The images numbered `rows`, in that order; see `Source.read`."""
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            images = np.stack([self._pixels(self._names[row]) for row in chosen])
            yield Examples(images, self._labels[chosen])

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        return _pixels(self._files, name, self._mode, self._size)


def read_images(path: Path, shape: tuple[int, ...]) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """One image, or all of a folder in the order of their names: these, and [n, channels, height, width].

    Raises:
        SourceInvalid: there is none, or one cannot be read.
    """
    files = _Folder(path if path.is_dir() else path.parent)
    names = sorted(filter(_is_image, files.names())) if path.is_dir() else [path.name]
    if not names:
        raise SourceInvalid(f"{path.name} has no images")
    channels, height, width = shape
    mode = "L" if channels == 1 else "RGB"
    return tuple(names), np.stack([_pixels(files, name, mode, (width, height)) for name in names])


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _pixels(files: _Files, name: str, mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    with _open(files, name) as image:
        try:
            converted = image.convert(mode)
        except (OSError, ValueError, SyntaxError) as error:
            raise SourceInvalid(f"{name} is damaged") from error
    if converted.size != size:
        converted = converted.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(converted, np.uint8)
    return pixels[np.newaxis] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open(files: _Files, name: str) -> Image.Image:
    """Read a file and its header only; nothing is decompressed yet."""
    try:
        if files.size(name) > MAX_IMAGE_FILE_BYTES:
            raise SourceInvalid(f"{name} is larger than {MAX_IMAGE_FILE_BYTES} bytes")
        image = Image.open(io.BytesIO(files.read(name)))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, zipfile.BadZipFile) as error:
        raise SourceInvalid(f"{name} is not a readable image") from error
    if image.width * image.height > MAX_PIXELS:
        raise SourceInvalid(f"{name} has more than {MAX_PIXELS} pixels")
    return image
