"""The wheel and the sdist of this source, and bare environments that they are installed in.

No network and no index: setuptools is the locked one, and an environment gets the locked distributions that
ours asks for as links to the files that are installed here already. What it does not ask for is not there.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = "chiron-ml"
BUILD = """
import sys
from setuptools import build_meta
_, to, *kinds = sys.argv
for kind in kinds:
    getattr(build_meta, "build_" + kind)(to)
"""
"""The hooks of PEP 517 that pip calls."""


class Archives(NamedTuple):
    """What is published, and the wheel that the sdist gives."""

    wheel: Path
    sdist: Path
    rebuilt: Path


def tracked() -> list[PurePosixPath]:
    """Files of this source: what git knows or would be told of, links as links."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted(filter(None, listed.stdout.split("\0")))
    return [PurePosixPath(name) for name in names if os.path.lexists(ROOT / name)]


def build_archives(folder: Path) -> Archives:
    """Build in `folder`, from a copy that holds the source and nothing that an earlier build left behind."""
    for name in tracked():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    _build(folder / "source", folder, "wheel", "sdist")
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    _build(unpacked, folder / "again", "wheel")
    (rebuilt,) = (folder / "again").glob("*.whl")
    return Archives(wheel, sdist, rebuilt)


def _build(source: Path, to: Path, *kinds: str) -> None:
    to.mkdir(exist_ok=True)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, to, *kinds], cwd=source, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr


class Environment:
    """A virtual environment with one of the archives and what its extras ask for."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        self.bin = folder / "bin"
        (self.packages,) = folder.glob("lib/python3*/site-packages")

    def install(self, archive: Path, *extras: str) -> None:
        """Install a wheel of ours, and link the locked distributions that these extras ask for."""
        command: list[str | Path] = [sys.executable, "-m", "pip", "--python", self.bin / "python", "install"]
        command += ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", archive]
        subprocess.run(command, check=True)
        (ours,) = metadata.distributions(name=PROJECT, path=[str(self.packages)])
        for distribution in needed(ours, extras):
            self.link(distribution)

    def link(self, distribution: metadata.Distribution) -> None:
        """Link one distribution that is installed here."""
        for file in distribution.files or ():
            target = self.packages / file
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(str(distribution.locate_file(file)))

    def run(self, *command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A program of this environment, in a folder that holds nothing of ours."""
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=cwd or self.bin,
            env={"PATH": f"{self.bin}:{os.defpath}", "HOME": str(self.bin.parent)},
            capture_output=True,
            text=True,
            check=False,
        )


def needed(ours: metadata.Distribution, extras: Iterable[str] = ()) -> list[metadata.Distribution]:
    """The distributions that ours asks for with these extras, and all that those ask for."""
    waiting = [Requirement(f"{PROJECT}[{','.join(extras)}]")]
    seen: set[tuple[str, frozenset[str]]] = set()
    found: dict[str, metadata.Distribution] = {}
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        if (name, frozenset(asked.extras)) in seen:
            continue
        seen.add((name, frozenset(asked.extras)))
        found[name] = ours if name == PROJECT else metadata.distribution(name)
        waiting += [
            requirement
            for requirement in map(Requirement, found[name].requires or ())
            if requirement.marker is None
            or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *asked.extras))
        ]
    del found[PROJECT]
    return list(found.values())
