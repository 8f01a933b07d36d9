"""Which committed source this is: what a log's entry says that an image was built from."""

import subprocess
from pathlib import Path

from chiron.enclave_image.contents import OUR_ROOMS
from chiron.enclave_image.errors import SourceUnknown

CHECKOUT = Path(__file__).resolve().parents[1]
"""Where our packages lie, and the lock beside them."""
LOCK = CHECKOUT / "requirements.lock"
_BUILT_FROM = (*OUR_ROOMS, "chiron/__init__.py", "enclave_image", "requirements.lock", "pyproject.toml")


def clean_revision(checkout: Path = CHECKOUT) -> str:
    """The git commit of `checkout`, if nothing that an image is built of differs from it.

    New files count too, as the build would take them in; documents, tests and the client's side do not.

    Raises:
        SourceUnknown: this is no git checkout, or it has changes that are not committed.
    """
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=all", "--", *_BUILT_FROM)
    if changed:
        raise SourceUnknown(f"not committed, so no revision names it: {changed.splitlines()[0].strip()}")
    return _git(checkout, "rev-parse", "HEAD")


def _git(checkout: Path, *arguments: str) -> str:
    try:
        ended = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(checkout), *arguments],  # noqa: S607 - the builder's own git
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SourceUnknown(f"{checkout} is no git checkout: give --revision") from error
    return ended.stdout.strip()
