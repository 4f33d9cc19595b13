"""One function over many tasks, in this process or in several."""

import concurrent.futures
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax

R = TypeVar("R")


def use_cpu() -> None:
    # The same bytes on every machine, and no accelerator shared by several processes.
    jax.config.update("jax_platforms", "cpu")


def _start_worker() -> None:
    use_cpu()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C


def run_all(
    function: Callable[..., R], tasks: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[R]:
    """Results as they come; with fewer than two workers one after the other, in this process.

    The first exception ends it: tasks that wait are dropped.
    """
    if workers < 2:
        for task in tasks:
            yield function(*task)
        return
    # Spawned, because JAX must not be forked once it runs.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker)
    try:
        futures = [pool.submit(function, *task) for task in tasks]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
