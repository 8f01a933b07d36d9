"""What the image of some other checkout measures: built by its own code, with its own packages."""

import subprocess
import tempfile
from pathlib import Path

from chiron.enclave_image.errors import ImageUnbuildable
from chiron.enclave_image.measurement import measure

_BUILD = "import sys, pathlib, chiron.enclave_image.build as b; b.build_image(pathlib.Path(sys.argv[1]))"


def measure_source(directory: Path) -> str:
    """Measurement of the image in `directory`, or of the one that the checkout there makes.

    Raises:
        ImageInvalid: there is neither.
        ImageUnbuildable: a checkout whose packages are not installed, or whose image cannot be built.
    """
    if not (directory / "enclave_image" / "build.py").is_file():
        return measure(directory)
    python = directory / ".venv" / "bin" / "python"
    if not python.exists():
        raise ImageUnbuildable(f"{directory} is a checkout without its packages: run scripts/setup in it")
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image")
        # The checkout that was named is what is to be measured: its own code builds its image.
        built = subprocess.run(  # noqa: S603
            [python.absolute(), "-c", _BUILD, image],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            last = built.stderr.strip().splitlines()[-1:] or ["it told nothing"]
            raise ImageUnbuildable(f"the image of {directory} cannot be built: {last[0]}")
        return measure(image)
