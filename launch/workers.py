"""Jobs in this process or in others, with a progress bar. Each job writes its own results.

Imports little: every process that is started imports this file.
"""

import concurrent.futures
import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence

import jax
from tqdm import tqdm

Job = Callable[[], int]  # returns how much was done, in the unit of the progress bar
Submit = Callable[[Job], "concurrent.futures.Future[int]"]


def use_cpu() -> None:
    """The same bytes on every machine, and no accelerator shared by several processes."""
    jax.config.update("jax_platforms", "cpu")


def _start_worker() -> None:
    use_cpu()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C


def _here(job: Job) -> "concurrent.futures.Future[int]":
    """Runs a job in this process."""
    done: concurrent.futures.Future[int] = concurrent.futures.Future()
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


def run_all(
    submit: Submit,
    jobs: Sequence[Job],
    title: str,
    sizes: Sequence[int] | None,
    unit: str,
    total: int | None = None,
) -> None:
    """Runs jobs with a progress bar that counts their sizes, or the numbers that they return."""
    whole = sum(sizes) if sizes is not None else total
    with tqdm(total=whole, desc=title, unit=unit, disable=not jobs, unit_scale=True) as bar:
        if submit is _here:
            for place, job in enumerate(jobs):
                done = job()
                bar.update(sizes[place] if sizes is not None else done)
            return
        futures = {submit(job): place for place, job in enumerate(jobs)}
        for future in concurrent.futures.as_completed(futures):
            done = future.result()
            bar.update(sizes[futures[future]] if sizes is not None else done)
