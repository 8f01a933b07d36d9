"""Byte code that is the same wherever and whenever it is compiled (PEP 552, unchecked hash-based .pyc).

CPython's `py_compile` is not reproducible: whether `marshal` writes a back reference depends on how often an
object happens to be referenced in the compiling process. Format version 2 has no back references.
"""

import importlib.util
import marshal
from pathlib import PurePosixPath

_UNCHECKED_HASH_BASED = 0b01
_MARSHAL_WITHOUT_REFERENCES = 2


def bytecode_path(source: PurePosixPath) -> PurePosixPath:
    """Where the interpreter looks for the byte code of `source`."""
    return PurePosixPath(importlib.util.cache_from_source(str(source)))


def compile_source(source: bytes, path: PurePosixPath) -> bytes:
    """The .pyc of `source`, whose place in the image is `path`.

    Raises:
        SyntaxError, ValueError: it is not Python of this version (template files are such).
    """
    code = compile(source, str(path), "exec", dont_inherit=True, optimize=0)
    flags = _UNCHECKED_HASH_BASED.to_bytes(4, "little")
    source_hash = importlib.util.source_hash(source)
    body = marshal.dumps(code, _MARSHAL_WITHOUT_REFERENCES)
    return importlib.util.MAGIC_NUMBER + flags + source_hash + body
