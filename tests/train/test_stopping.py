"""Signals that ask a run to stop."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spatialevo_jax.train.stopping import SIGNALS, Stopped, stop_requests


@pytest.fixture(autouse=True)
def as_in_the_foreground() -> Iterator[None]:
    """Whatever shell the tests are run from: one in the background has SIGINT ignored."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    before = {sent: signal.signal(sent, handler) for sent, handler in handlers.items()}
    yield
    for sent, handler in before.items():
        signal.signal(sent, handler)


@pytest.mark.parametrize("sent", SIGNALS)
def test_the_first_signal_is_remembered(sent: signal.Signals) -> None:
    before = signal.getsignal(sent)
    with stop_requests() as asked:
        assert asked(0) is None
        os.kill(os.getpid(), sent)
        assert [asked(1), asked(2)] == [sent, sent]
        assert {signal.getsignal(one) for one in SIGNALS} == {signal.SIG_DFL}
    assert signal.getsignal(sent) == before


@pytest.mark.parametrize("second", SIGNALS)
def test_the_second_signal_ends_the_process_at_once(second: signal.Signals) -> None:
    code = f"""
import os, signal
from spatialevo_jax.train.stopping import stop_requests
with stop_requests() as asked:
    os.kill(os.getpid(), signal.SIGTERM)
    print(asked(0).name, flush=True)
    os.kill(os.getpid(), {int(second)})
    print("still here")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-second, "SIGTERM\n", "")


def test_what_is_ignored_stays_ignored() -> None:
    """As the shell has it for jobs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked(0) is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stopped_run_says_where_it_goes_on() -> None:
    said = str(Stopped(signal.SIGTERM, 3, 9, Path("runs/demo/checkpoints/3")))
    assert said == (
        "stopped by SIGTERM after 3 of 9 steps; runs/demo/checkpoints/3 is saved, and the same "
        "command goes on from there."
    )
