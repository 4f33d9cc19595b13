"""Processes that a command starts for itself: they live as it does."""

import os
import signal
import threading
import time
from collections.abc import Sequence


def live_with(parent: int, ignored: Sequence[signal.Signals] = (signal.SIGINT,)) -> None:
    """Of a process whose parent was started as `parent`: ignores what the parent answers, which a
    terminal or a cluster sends to both, and ends soon after it. The parent may be killed without a
    word, and what it started would go on beside the run that goes on.
    """
    for one in ignored:
        signal.signal(one, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
