"""An enclave's log, which its host reads: a descriptor of its own, and nothing on it but words of ours.

Native libraries write what they like to standard output and error. onnxruntime tells the value of an index
that is out of bounds, and an operator's graph can compute that index from the owner's rows. So descriptors 1
and 2 lead nowhere before a role begins, and the log goes out by a descriptor that no library knows.
"""

import logging
import os

_OURS = "chiron"


class FixedVocabulary(logging.Formatter):
    """Messages of Chiron's own loggers; of others' only the logger's name. Exceptions are never shown.

    Other libraries and asyncio log exceptions with their messages, and those may hold data.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One printable line."""
        ours = record.name.partition(".")[0] == _OURS
        text = record.getMessage() if ours else "a library's message, withheld"
        line = f"{record.levelname} {record.name} {text}"
        return "".join(character if character.isprintable() else "?" for character in line)


def open_log() -> None:
    """Log to what is standard error now; after this, descriptors 1 and 2 of this process lead nowhere.

    Raises:
        OSError: there is no null device; then nothing may run.
    """
    log = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    handler = logging.StreamHandler(log)
    handler.setFormatter(FixedVocabulary())
    # A handler that fails would print the record and a traceback.
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
