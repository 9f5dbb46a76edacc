"""Computations in a process of their own: the solver holds the interpreter for seconds, the stage must not.

A worker is a fresh interpreter (never a fork of one with running threads) and dies with its stage.
"""

import asyncio
import importlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from flexbus.views.fact import Emission, Job
from streams.process import die_with_parent, no_collection

__all__ = ["JobError", "Jobs"]

log = logging.getLogger(__name__)
ATTEMPTS = 3
_PAUSE_S = 0.5


class JobError(Exception):
    """A computation failed as often as it may."""

    def __init__(self, job: Job, cause: BaseException) -> None:
        super().__init__(f"{job.run.__module__}.{job.run.__qualname__} failed {ATTEMPTS} times: {cause!r}")
        self.job = job


class Jobs:
    """Runs jobs beside the event loop.

    Args:
        workers: how many run at once.
        modules: what a worker imports before the first job, so that it does not have to then.
    """

    def __init__(self, workers: int = 1, modules: tuple[str, ...] = ()) -> None:
        self._workers, self._modules = workers, modules
        self._pool: ProcessPoolExecutor | None = None

    def warm(self) -> None:
        """Start a worker now: its imports take seconds that would else be added to the first job."""
        self._open().submit(os.getpid)

    async def run(self, job: Job) -> tuple[tuple[Emission, ...], float]:
        """Return the job's results and its run time in s; a job that fails, or whose worker dies, is tried again.

        Raises:
            JobError: it failed every time.
        """
        last: BaseException | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S * 2**attempt)
            try:
                future = self._open().submit(_timed, job)
                results, seconds = await asyncio.wrap_future(future)
            except BrokenProcessPool as error:
                last = error
                log.warning("the worker of %s died; trying again in a new one", job.run.__qualname__)
                self._drop()
            except Exception as error:
                last = error
                log.warning("%s failed", job.run.__qualname__, exc_info=True)
            else:
                if results and results[-1].event_id == job.job_id:
                    return results, seconds
                last = ValueError(f"the last result has not the id {job.job_id} of the job")
        assert last is not None
        raise JobError(job, last) from last

    def close(self) -> None:
        """End the workers without waiting for their jobs: the successor runs them again."""
        self._drop()

    def _open(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare,
                initargs=(self._modules,),
            )
        return self._pool

    def _drop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            for worker in list((pool._processes or {}).values()):
                worker.kill()
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare(modules: tuple[str, ...]) -> None:
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None:  # where the kernel does not tell: wait for the parent's end in a thread
        threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()
    for module in modules:
        importlib.import_module(module)


def _end_after(parent_ends: Callable[[], None]) -> None:
    parent_ends()
    os._exit(1)


def _timed(job: Job) -> tuple[tuple[Emission, ...], float]:
    began = time.monotonic()
    with no_collection():  # a book is hundreds of thousands of small objects, and none of them forms a cycle
        return job.run(*job.arguments), time.monotonic() - began
