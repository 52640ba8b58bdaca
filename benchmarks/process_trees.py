"""Memory of a process and its children, sampled while it runs."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROC = Path("/proc")


def tree_of(pid: int) -> list[int]:
    """List a process and all that descend from it."""
    found, ahead = [], [pid]
    while ahead:
        found.append(ahead.pop())
        for task in (PROC / str(found[-1]) / "task").glob("*/children"):
            with suppress(OSError):
                ahead += map(int, task.read_text().split())
    return found


def megabytes(pid: int) -> float:
    """Measure the resident memory of one process; a page that n processes share counts 1/n."""
    with suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def sampled_memory(pid: int, every_s: float = 0.5) -> Iterator[list[tuple[float, float, float]]]:
    """Collect (seconds, MB of the process, MB of it and its children) until the block ends."""
    samples: list[tuple[float, float, float]] = []
    ended = threading.Event()
    start = time.monotonic()

    def sample() -> None:
        while not ended.wait(every_s):
            sizes = [megabytes(each) for each in tree_of(pid)]
            if sizes[0]:
                samples.append((time.monotonic() - start, sizes[0], sum(sizes)))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        sampler.join()
