"""Memory of this process, where arrays lie in it."""

import ctypes
from pathlib import Path

# Of <malloc.h>; the values are part of the GNU C library's interface.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
ACCELERATORS = ("nvidia[0-9]*", "accel[0-9]*", "vfio/[0-9]*", "kfd")  # below /dev


def keep_freed_memory() -> bool:
    """Has the C library keep what is freed, where arrays lie in this process's memory: on machines
    without accelerators. To be called before the first array is made. Returns whether it was done.

    A compiled function has all its temporary memory at once, gigabytes in an update, and gives it
    back at its end. By default the library returns so much to the system, which hands it out anew,
    page by page and zeroed, at the next call; that took up to half of an update's time. Kept, it
    is there. The process's memory then stays at its peak, which can be higher by half.
    """
    here = Path("/dev")
    if any(found for pattern in ACCELERATORS for found in here.glob(pattern)):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):  # another C library than GNU's
        return False
    # Never trimmed, never mapped apart; one arena, since others can't hold large blocks.
    options = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))
    return all(library.mallopt(option, value) == 1 for option, value in options)
