"""A lock on an open file, on Linux, macOS and Windows. The system lets go of it when the file is closed."""


def lock(descriptor: int) -> None:
    """Wait until this process alone holds the file."""
    try:
        import fcntl
    except ModuleNotFoundError:
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
