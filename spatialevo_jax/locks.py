"""Locks between processes, which end with the process that has them."""

import fcntl


def lock(handle: int) -> bool | None:
    """Takes an open file or folder for this process alone, until the handle is closed. False if
    another one has it, None where the file system knows no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
