"""`--device cuda:0,cuda:1`: one process per device, since threads share the interpreter's lock.

The processes are workers as those on other machines are: each takes a portion of the clips at a
time and writes parts of its own into the stores.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline.interrupts import ignore_interrupts
from pipeline.portions import ClipFile, ClipPass, Report, Worker

if TYPE_CHECKING:
    from concurrent.futures import Future

PORTIONS_AHEAD = 2
"""Portions that a process has, so that it never waits for the next one."""

_worker: Worker
"""The worker of this process, where it is one of those."""


def encode_on_devices(clip_pass: ClipPass, n_devices: int) -> dict[int, Exception]:
    """Encode the clips in a process per device; return the errors by the number of the task.

    The decoding threads are shared out among the processes. ChildProcessError where a process was
    ended from outside; what it had written is kept.
    """
    decoders = max(1, (clip_pass.workers or min(16, os.cpu_count() or 1)) // n_devices)
    workers = [clip_pass.worker(device=device, decoders=decoders) for device in range(n_devices)]
    with closing(_reports(workers, clip_pass.portions(n_devices))) as reports:
        return clip_pass.follow(reports)


def _reports(
    workers: Sequence[Worker], portions: Iterator[list[ClipFile]]
) -> Generator[list[Report]]:
    """Give each process its next portion as soon as one is done; yield what is reported."""
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky import ProcessPoolExecutor

    pools = [ProcessPoolExecutor(1, initializer=_start, initargs=(worker,)) for worker in workers]
    running: dict[Future[list[Report]], int] = {}

    def begin(number: int) -> None:
        if (portion := next(portions, None)) is not None:
            running[pools[number].submit(_encode, portion)] = number

    try:
        for _ in range(PORTIONS_AHEAD):
            for number in range(len(pools)):
                begin(number)
        while running:
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                begin(running.pop(done))
                yield done.result()
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process of --device was ended from outside, perhaps for want of memory; what it had "
            "written is kept, and the same command goes on from there"
        ) from None
    finally:
        for future in running:
            future.cancel()
        for pool in pools:
            pool.shutdown(wait=True)


def _start(worker: Worker) -> None:
    """Make this process one of the workers."""
    global _worker  # noqa: PLW0603 - a process is started with it, and each portion finds it here
    ignore_interrupts()
    _worker = worker


def _encode(portion: list[ClipFile]) -> list[Report]:
    return _worker.encode(portion)
