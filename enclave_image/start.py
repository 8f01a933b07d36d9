"""In the image, the first of our code that runs: compares its files with those that were built, then starts.

    python -I -S -B start.py DIGEST

The entry program starts it. DIGEST is compiled into that: the SHA-256 of `files.txt`, which lies beside this
file and names each file of both folders with its size and, up to a size, its hash. Standard library only.

What it finds: a file of a lower, measured layer that a writable one hides, adds to or removes. What it cannot
find: that the entry program, the interpreter, its standard library or this file were replaced, as they run
before it or are it; nor a change afterwards (docs/occlum.md).
"""

import hashlib
import os
import runpy
import sys

HERE = "/opt/chiron"
FOLDERS = ("/opt/chiron", "/opt/python")
LIST = f"{HERE}/files.txt"
ENTRY_PROGRAM = f"{HERE}/bin/enclave"
"""Not in the list: it holds the list's digest."""
HASHED_BYTES = 2**20
"""Larger files, all of them native libraries, are compared by size, as hashing them takes long."""
EXIT_SHADOWED = 3


def described(root: str = "") -> str:
    """One line a file or link under the folders: size, hash and path, sorted by path."""
    lines = {}
    waiting = [root + folder for folder in FOLDERS]
    while waiting:
        with os.scandir(waiting.pop()) as found:
            for item in found:
                path = item.path[len(root) :]
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                elif path not in (LIST, ENTRY_PROGRAM):
                    lines[path] = _described(item)
    return "".join(f"{lines[path]} {path}\n" for path in sorted(lines))


def _described(item: "os.DirEntry[str]") -> str:
    if item.is_symlink():
        return f"link {hashlib.sha256(os.readlink(item.path).encode()).hexdigest()}"  # noqa: PTH115
    size = item.stat(follow_symlinks=False).st_size
    if size > HASHED_BYTES:
        return f"{size} -"
    with open(item.path, "rb") as file:  # noqa: PTH123 - pathlib takes long to import
        return f"{size} {hashlib.sha256(file.read()).hexdigest()}"


def main(expected: str) -> None:
    """Start the runtime, or end where a file is not the one that was built."""
    with open(LIST, "rb") as file:  # noqa: PTH123
        listed = file.read()
    if hashlib.sha256(listed).hexdigest() != expected or described().encode() != listed:
        print("ended: image-shadowed", file=sys.stderr)
        sys.exit(EXIT_SHADOWED)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(f"{HERE}/lib/{version}/site-packages")
    sys.argv[1:] = []
    runpy.run_module("chiron.runtime", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])
