"""An image that Occlum would take, also where this machine's interpreter is one that it would not."""

import os
import shutil
from pathlib import Path

import pytest

from chiron.enclave_image.contents import INTERPRETER
from chiron.enclave_image.elf import read_elf
from chiron.enclave_image.manifest import ROOT

_ET_DYN = (3).to_bytes(2, "little")
_TYPE_OFFSET = 16


@pytest.fixture(scope="session")
def occlum_image(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image; where its interpreter is not position-independent (Debian's), one whose header says it is.

    It is looked at and never started.
    """
    inside = INTERPRETER.relative_to("/")
    if read_elf(image / ROOT / inside).position_independent:
        return image
    directory = tmp_path_factory.mktemp("occlum") / "image"
    shutil.copytree(image, directory, symlinks=True, copy_function=os.link)
    interpreter = directory / ROOT / inside
    content = bytearray(interpreter.read_bytes())
    content[_TYPE_OFFSET : _TYPE_OFFSET + 2] = _ET_DYN
    interpreter.unlink()
    interpreter.write_bytes(content)
    interpreter.chmod(0o755)
    return directory
