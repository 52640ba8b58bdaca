"""Read mutations of a file, each in a child with the importer's own limits; count what happens.

Run with a file, a number of mutations, a seed and a folder for the mutants; prints JSON. A child
that crashes or takes too long is what `cache.sandbox.ask` turns into a refusal.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import h5py  # noqa: F401  (imported once, here, not once per mutation)

from cache.foreign_reader import answer
from cache.sandbox import SECONDS, _limit


def mutate(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data))]
    mutant = bytearray(data)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 8192)  # metadata comes first
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        at = rng.randrange(reach)
        mutant[at] = rng.choice([mutant[at] ^ (1 << rng.randrange(8)), rng.randrange(256), 0, 255])
    return bytes(mutant)


def read(path: Path) -> None:
    """Be the child."""
    signal.alarm(int(SECONDS) + 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    _limit()
    choices = {"embeddings_key": "", "names_key": "", "axes": "", "dequantise": False, "match": ""}
    try:
        answer(lambda message, data: None, str(path), choices)
    except BaseException:
        os._exit(1)
    os._exit(0)


def main() -> None:
    source, n, seed, folder = sys.argv[1:]
    data = Path(source).read_bytes()
    rng = random.Random(seed)
    counts = {"read": 0, "refused": 0, "crashed": 0, "late": 0}
    slowest = largest = 0.0
    mutant = Path(folder, f"mutant-{seed}{Path(source).suffix}")
    for _ in range(int(n)):
        mutant.write_bytes(mutate(data, rng))
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            read(mutant)
        _, status, usage = os.wait4(pid, 0)
        slowest = max(slowest, time.monotonic() - began)
        largest = max(largest, usage.ru_maxrss / 1024)
        if os.WIFSIGNALED(status):
            counts["late" if os.WTERMSIG(status) == signal.SIGALRM else "crashed"] += 1
        else:
            counts["refused" if os.WEXITSTATUS(status) else "read"] += 1
    print(json.dumps({**counts, "slowest_s": slowest, "most_mb": largest}))


if __name__ == "__main__":
    main()
