"""Asking a run to stop: a signal is remembered until the step that it came in is done.

The second one ends the process at once. Of several processes, all stop before the same step,
whichever of them was told to (`jax.distributed` passes SIGTERM on).
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import jax
from jax.experimental import multihost_utils

SIGNALS = (signal.SIGTERM, signal.SIGINT)

Asked = Callable[[int], signal.Signals | None]  # before an update, by number -> what asks to stop


class Stopped(Exception):
    """A run ended early because it was asked to. What it did is saved."""

    def __init__(self, by: signal.Signals, step: int, total: int, saved: Path) -> None:
        self.by = by
        super().__init__(
            f"stopped by {by.name} after {step} of {total} steps; {saved} is saved, and the same "
            "command goes on from there."
        )


@contextlib.contextmanager
def stop_requests() -> Iterator[Asked]:
    """Listens while the block runs, in the main thread."""
    if jax.process_count() > 1:  # JAX listens, and so that it can, nobody else does

        def reached(step: int) -> signal.Signals | None:
            return signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else None

        yield reached
        return
    received: list[signal.Signals] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        for one in before:
            signal.signal(one, signal.SIG_DFL)

    # One that is ignored stays ignored: a shell's background job is not stopped by Ctrl-C.
    before = {one: signal.getsignal(one) for one in SIGNALS}
    before = {one: handler for one, handler in before.items() if handler is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, remember)
    try:
        yield lambda step: received[0] if received else None
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
