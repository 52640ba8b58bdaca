"""Change single bytes of a store's files and use the store as a run does; count what happens.

Run with a kind of store, a number of changes, a seed and a folder; prints JSON. The process must
live: a crash of the HDF5 library would end it. HDF5 is asked in a fork with the limits of
`cache.sandbox`, which is the same child without a new Python for each change.
"""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py  # noqa: F401  (imported once, here, not once per change)
import numpy as np
from small_stores import content, open_store, sha256_of

from cache import hdf5, sandbox, table
from cache.failures import DamagedRowsError
from cache.inspection import verify
from cache.repairing import set_aside_unreadable
from cache.store import EmbeddingStore

FORMAT_1 = Path(__file__).parent / "cache" / "format_1"
KEYS = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(150)]
HEADER_BYTES = 3000
"""Half of the changes hit the bytes that describe the rest of a file."""
ROWS = np.arange(600, dtype=np.float32).reshape(150, 4) + 1


REFUSED_FOR_GOOD = ("delete it", "use another --cache-dir", "give this data its own", "update this")
"""What format 1 can say, whose header has no checksum: it is then another store, or none."""


def write_store(kind: str, folder: Path) -> list[Path]:
    """Write a store and return the files to damage."""
    store = open_store(folder)
    folder.mkdir()
    if kind == "format 1":
        shutil.copy(FORMAT_1 / store.path.name, store.path)
        return [store.path]
    for start in (0, 75):
        keys = KEYS[start : start + 75]
        store.append(keys, ROWS[start : start + 75], [content(key) for key in keys])
    if kind == "merged":
        store.merge()
        return [store.path]
    return sorted(store.parts_folder.iterdir())


def ask_by_fork(
    target: str, n_bytes: int, *, patience: float, **request: Any
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Do what `cache.sandbox.ask` does, in a fork."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(readable)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(writable, "wb") as out:
            answer = getattr(hdf5, target.partition(":")[2])
            sandbox._limit()
            signal.alarm(10)  # as the watchdog of `ask` does: HDF5 can loop for ever
            try:
                answer(sandbox._sender(out), **request)
                sandbox._sender(out)({"done": True}, b"")
            except BaseException as error:
                sandbox._sender(out)({"refused": repr(error)}, b"")
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as stream:
        while True:
            message, data = sandbox._receive(stream)
            if not message or "refused" in message or "done" in message:
                break
            yield message, data
    os.waitpid(pid, 0)
    if "done" not in message:
        raise ValueError(message.get("refused", "it makes its reader crash"))


def missing(store: EmbeddingStore) -> list[str]:
    return store.missing({key: content(key)[:2] for key in KEYS}, sha256_of)


def use(folder: Path) -> str:
    """Read all rows that the store offers; return how it went. No row may be wrong."""
    try:
        store = open_store(folder)
        absent = frozenset(missing(store))
        store.keys()
        keys = [key for key in KEYS if key not in absent]
        try:
            rows = store.read(keys)
        except DamagedRowsError as error:
            keys = [key for key in keys if key not in error.keys]
            rows = store.read(keys)
    except (OSError, ValueError) as error:
        if "--repair` sets" in str(error):
            return "refused"
        if any(advice in str(error) for advice in REFUSED_FOR_GOOD):
            return "refused for good"
        raise
    assert np.array_equal(rows, ROWS[[KEYS.index(key) for key in keys]]), "a wrong row"
    if len(keys) == len(KEYS):
        return "unharmed"
    return "rows damaged" if len(keys) + len(absent) < len(KEYS) else "rows absent"


def repair(folder: Path) -> None:
    """Do what `verify --repair` and the next run do; afterwards every row is there and right."""
    path = open_path(folder)
    set_aside_unreadable(path)
    if path.exists() or path.with_suffix(".parts").exists():
        EmbeddingStore.at(path).repair()
        assert verify(path).intact
    store = open_store(folder)
    absent = missing(store)
    store.append(absent, ROWS[[KEYS.index(key) for key in absent]], [content(k) for k in absent])
    store.merge()
    assert np.array_equal(store.read(KEYS), ROWS), "not repaired"
    assert not store.structure_problem()


def open_path(folder: Path) -> Path:
    return folder / "dev_data-logmel-mean-0123456789ab.h5"


def main() -> None:
    kind, n, seed, place = sys.argv[1:]
    rng = random.Random(int(seed))
    table.ask = ask_by_fork  # type: ignore[attr-defined]
    files = write_store(kind, Path(place, "source"))
    os.fsync = lambda _: None  # type: ignore[assignment]
    sources = [(file, i) for file in files for i in range(file.stat().st_size)]
    described = [(file, i) for file, i in sources if i < HEADER_BYTES]
    n_described = min(int(n) // 2, len(described))
    chosen = rng.sample(described, n_described) + rng.sample(sources, int(n) - n_described)
    counts = {"changes": len(chosen)}
    for number, (file, at) in enumerate(chosen):
        folder = Path(place, "damaged")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(Path(place, "source"), folder)
        mutant = folder / file.relative_to(Path(place, "source"))
        data = bytearray(mutant.read_bytes())
        data[at] ^= rng.choice([1 << rng.randrange(8), rng.randrange(1, 256)])
        mutant.write_bytes(data)
        try:
            outcome = use(folder)
            if outcome == "refused for good":
                assert kind == "format 1", "refused for good"
            elif outcome != "unharmed" or number % 10 == 0:
                repair(folder)
        except Exception as error:
            error.add_note(f"{kind}: {file.name}, byte {at} is {data[at]:#x}")
            raise
        counts[outcome] = counts.get(outcome, 0) + 1
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
