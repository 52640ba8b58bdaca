"""A process to be killed: fills a store with vectors that can be checked from their key alone.

Run with the cache folder; each line on standard input, `GENERATION SEED`, forks a child that does
one embedding run and says on standard output what it has done: `pid`, `ack GENERATION KEYS`,
`merging`, `merged`, `done`.
"""

import hashlib
import os
import random
import sys
from pathlib import Path

import numpy as np

from cache.store import EmbeddingStore

KEYS = [f"fan/train/normal_id_{i % 4:02d}_{i:08d}.wav" for i in range(240)]
DIM = 48


def environment() -> dict[str, str]:
    """Return the environment in which a process finds the rooms and this module."""
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent), str(tests)])
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def vector(key: str, generation: int) -> np.ndarray:
    seed = hashlib.sha256(f"{key} {generation}".encode()).digest()
    return np.frombuffer(seed * (DIM // 8), dtype=np.uint32).astype(np.float32)[:DIM] + 1


def content(key: str, generation: int) -> tuple[int, int, str]:
    return generation, generation * 7, hashlib.sha256(f"{key}{generation}".encode()).hexdigest()


def open_store(directory: Path) -> EmbeddingStore:
    return EmbeddingStore.open(
        directory,
        data_name="dev",
        data_root=Path("/data/dev"),
        encoder="logmel",
        pooling="mean",
        fingerprint="ab" * 32,
        configuration={"n_mels": 128},
    )


def embed(directory: Path, generation: int, seed: int) -> None:
    rng = random.Random(seed)
    store = open_store(directory)
    with store.lock():
        contents = {key: content(key, generation)[:2] for key in KEYS}
        todo = store.missing(contents, lambda key: content(key, generation)[2])
        while todo:
            n = rng.choice([1, 16, 40])
            some, todo = todo[:n], todo[n:]
            rows = np.stack([vector(key, generation) for key in some])
            store.append(some, rows, [content(key, generation) for key in some])
            say(f"ack {generation} {' '.join(some)}")
            if rng.random() < 0.25:
                merge(store)
        merge(store)
    say("done")


def merge(store: EmbeddingStore) -> None:
    say("merging")
    store.merge()
    say("merged")


def say(text: str) -> None:
    os.write(1, (text + "\n").encode())


def fill(store: EmbeddingStore) -> tuple[list[str], OSError | None]:
    """Append batch by batch until it fails; return what was acknowledged, and the failure."""
    kept: list[str] = []
    for start in range(0, len(KEYS), 8):
        some = KEYS[start : start + 8]
        rows = np.repeat(np.stack([vector(key, 1) for key in some]), 64, axis=1)
        try:
            store.append(some, rows, [content(key, 1) for key in some])
        except OSError as error:
            return kept, error
        kept += some
    return kept, None


if __name__ == "__main__":
    for line in sys.stdin:
        generation, seed = map(int, line.split())
        pid = os.fork()
        if pid == 0:
            say(f"pid {os.getpid()}")
            embed(Path(sys.argv[1]), generation, seed)
            os._exit(0)
        os.waitpid(pid, 0)
        say("over")
