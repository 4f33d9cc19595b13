"""Jobs in this process or in others.

Imports little: every process that is started imports this file.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from tqdm import tqdm

from launch.errors import UserError
from spatialevo_jax.children import live_with
from spatialevo_jax.locks import lock

R = TypeVar("R")
Submit = Callable[[Callable[[], Any]], "concurrent.futures.Future[Any]"]


def use_cpu() -> None:
    """The same bytes on every machine, and no accelerator shared by several processes."""
    jax.config.update("jax_platforms", "cpu")


def _start_worker() -> None:
    use_cpu()
    live_with(os.getppid())


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds a file or a folder that is there, as long as this lasts.

    Raises:
        UserError: another process holds it.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if lock(handle) is False:
            raise UserError(f"{path}: another run is writing there; wait for its end, or stop it.")
        yield
    finally:
        os.close(handle)


def _here(job: Callable[[], R]) -> "concurrent.futures.Future[R]":
    """Runs a job in this process."""
    done: concurrent.futures.Future[R] = concurrent.futures.Future()
    done.set_result(job())
    return done


@contextlib.contextmanager
def started(count: int) -> Iterator[Submit]:
    """How to submit jobs to `count` processes; fewer than two: to this one."""
    if count < 2:
        yield _here
        return
    # Spawned, because JAX must not be forked once it runs.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(count, context, initializer=_start_worker)
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)


def results(submit: Submit, jobs: Sequence[Callable[[], R]]) -> Iterator[tuple[int, R]]:
    """Place and result of each job, as they come. The first exception ends it."""
    if submit is _here:
        for place, job in enumerate(jobs):
            yield place, job()
        return
    futures = {submit(job): place for place, job in enumerate(jobs)}
    for future in concurrent.futures.as_completed(futures):
        yield futures[future], future.result()


def run_all(
    submit: Submit,
    jobs: Sequence[Callable[[], int]],
    title: str,
    sizes: Sequence[int] | None,
    unit: str,
    total: int | None = None,
) -> None:
    """Runs jobs with a progress bar that counts their sizes, or the numbers that they return."""
    whole = sum(sizes) if sizes is not None else total
    with tqdm(total=whole, desc=title, unit=unit, disable=not jobs, unit_scale=True) as bar:
        for place, done in results(submit, jobs):
            bar.update(sizes[place] if sizes is not None else done)
