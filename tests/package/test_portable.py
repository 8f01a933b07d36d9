"""The data owner's side runs on macOS and Windows too: it imports nothing that only Linux or Unix has."""

import json
import subprocess
import sys

UNIX = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""Modules of the standard library that Windows lacks."""
LINUX = (
    *("copy_file_range", "eventfd", "getxattr", "listxattr", "memfd_create", "pidfd_open", "posix_fadvise"),
    *("sched_getaffinity", "sched_setaffinity", "setns", "setxattr", "splice", "unshare"),
)
"""Names of `os` that only Linux has."""
IMPORT = """
import ast, builtins, ctypes, importlib, json, pkgutil, sys
from pathlib import Path

UNIX, LINUX = map(set, json.loads(sys.argv[1]))
found = set()
honest = builtins.__import__

def watched(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if importer.startswith("chiron") and name.partition(".")[0] in UNIX:
        found.add(f"{importer} imports {name}")
    return honest(name, globals, locals, fromlist, level)

class Library(ctypes.CDLL):
    def __init__(self, name, *rest, **options):
        if name is None:
            caller = sys._getframe(1).f_globals["__name__"]
            if caller.startswith("chiron"):
                found.add(f"{caller} opens the C library")
        super().__init__(name, *rest, **options)

builtins.__import__, ctypes.CDLL = watched, Library
import chiron.client, chiron.cli.application
for module in pkgutil.walk_packages(chiron.client.__path__, "chiron.client."):
    importlib.import_module(module.name)
for name in [name for name in sys.modules if name.startswith("chiron")]:
    for node in ast.walk(ast.parse(Path(sys.modules[name].__file__).read_bytes())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            if node.attr in LINUX:
                found.add(f"{name} uses os.{node.attr}")
print(json.dumps(sorted(found)))
"""


def test_the_client_imports_nothing_that_only_linux_has() -> None:
    command = [sys.executable, "-c", IMPORT, json.dumps([UNIX, LINUX])]
    imported = subprocess.run(command, capture_output=True, text=True, check=False)
    assert imported.returncode == 0, imported.stderr
    assert json.loads(imported.stdout) == []
