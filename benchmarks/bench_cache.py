"""How fast the cache is, beside what people write themselves and beside the disk.

    python benchmarks/bench_cache.py [--rows 1000000] [--folder DIR]

Every measurement runs in a process of its own, so that memory figures are that step's alone.
`--json FOLDER` keeps all of them as a record (records.py).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from records import make_record, save  # noqa: E402

from cache.store import EmbeddingStore  # noqa: E402

DIM = 768
PART = 4096
PARTS = 100
MACHINE = 1000
GOALS = {"us a row": 50, "open s": 0.3, "open MB": 100, "missing s": 2.0, "merge MB": 1000}


def open_store(folder: Path, name: str = "bench") -> EmbeddingStore:
    return EmbeddingStore.open(
        folder,
        data_name=name,
        data_root=Path("/data"),
        encoder="ast",
        pooling="clip",
        fingerprint="0" * 64,
        configuration={},
    )


def key(i: int) -> str:
    return f"fan/train/normal_id_{i // MACHINE:04d}_{i:08d}.wav"


def memory_mb(kind: str = "VmRSS") -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) / 1024
    raise OSError(f"this system does not say {kind}")


def bytes_read() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


class Timer:
    """Wall and processor seconds; the latter hardly notices a busy neighbour."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"seconds": wall, "processor seconds": cpu}


def append(folder: Path, _: int) -> dict[str, float]:
    """Compare 32 rows a part with one growing HDF5 file flushed (and fsynced) per batch."""
    rng = np.random.default_rng(0)
    found: dict[str, float] = {}
    for dim in (128, 768, 2048):
        rows = rng.normal(size=(32, dim)).astype(np.float32)
        ways: dict[str, Callable[[int], None]] = {}
        store = open_store(folder / f"append{dim}")

        def ours(i: int, store: EmbeddingStore = store, rows: np.ndarray = rows) -> None:
            provenance = [(1, 1, "ab" * 32)] * 32
            store.append([key(i * 32 + j) for j in range(32)], rows, provenance)

        naive_file = h5py.File(folder / f"naive{dim}.h5", "w")
        matrix = naive_file.create_dataset(
            "embeddings", (0, dim), "f4", chunks=(128, dim), maxshape=(None, dim)
        )
        names = naive_file.create_dataset(
            "filenames", (0,), h5py.string_dtype(), chunks=(128,), maxshape=(None,)
        )
        descriptor = os.open(folder / f"naive{dim}.h5", os.O_RDWR)

        def naive(
            i: int,
            file: h5py.File = naive_file,
            matrix: h5py.Dataset = matrix,
            names: h5py.Dataset = names,
            rows: np.ndarray = rows,
            descriptor: int = descriptor,
        ) -> None:
            matrix.resize((i + 1) * 32, 0)
            names.resize((i + 1) * 32, 0)
            matrix[i * 32 :] = rows
            names[i * 32 :] = [key(i * 32 + j) for j in range(32)]
            file.flush()
            os.fsync(descriptor)

        def raw(i: int, rows: np.ndarray = rows, dim: int = dim) -> None:
            with (folder / f"raw{dim}-{i}").open("wb", buffering=0) as file:
                file.write(rows.data)
                os.fsync(file.fileno())

        ways = {"ours": ours, "one growing file + fsync": naive, "fsync of the bare bytes": raw}
        times: dict[str, list[float]] = {way: [] for way in ways}
        processor = dict.fromkeys(ways, 0.0)
        for i in range(PARTS):  # interleaved, so that a busy neighbour hits all alike
            for way, write in ways.items():
                timer = Timer()
                write(i)
                spent = timer.seconds()
                times[way].append(spent["seconds"])
                processor[way] += spent["processor seconds"]
        for way, seconds in times.items():
            found[f"{dim}-d, {way}, us a row"] = statistics.median(seconds) / 32 * 1e6
            found[f"{dim}-d, {way}, fastest tenth"] = sorted(seconds)[PARTS // 10] / 32 * 1e6
            found[f"{dim}-d, {way}, processor"] = processor[way] / PARTS / 32 * 1e6
    return found


def build(folder: Path, n: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    store = open_store(folder)
    digest = hashlib.sha256(b"").hexdigest()
    timer = Timer()
    for start in range(0, n, PART):
        some = range(start, min(start + PART, n))
        rows = rng.random((len(some), DIM), dtype=np.float32)
        store.append([key(i) for i in some], rows, [(i, i, digest) for i in some])
    return timer.seconds()


def disk(folder: Path, n: int) -> dict[str, float]:
    """Copy as many bytes as a merge does, from the parts to one file, and fsync."""
    parts = sorted((folder / "bench-ast-clip-000000000000.parts").glob("part-*"))
    timer = Timer()
    with (folder / "copy").open("wb", buffering=0) as out:
        for part in parts:
            with part.open("rb", buffering=0) as file:
                while block := file.read(16 << 20):
                    out.write(block)
        os.fsync(out.fileno())
    found = timer.seconds()
    (folder / "copy").unlink()
    return {**found, "GB/s": n * DIM * 4 / found["seconds"] / 1e9}


def merge(folder: Path, n: int) -> dict[str, float]:
    store = open_store(folder)
    timer = Timer()
    store.merge()
    found = timer.seconds()
    speed = n * DIM * 4 / found["seconds"] / 1e9
    return {**found, "GB/s": speed, "peak MB": memory_mb("VmHWM")}


def open_keys(folder: Path, n: int) -> dict[str, float]:
    store = open_store(folder)
    before = memory_mb()
    timer = Timer()
    clips = len(store)
    return {**timer.seconds(), "MB more": memory_mb() - before, "clips": clips}


def open_names(folder: Path, n: int) -> dict[str, float]:
    """Measure what a dict of all names costs instead."""
    before = memory_mb()
    timer = Timer()
    with h5py.File(open_store(folder).path) as file:
        rows = {name: i for i, name in enumerate(file["filenames"].asstr()[:])}
    return {**timer.seconds(), "MB more": memory_mb() - before, "clips": len(rows)}


def missing(folder: Path, n: int) -> dict[str, float]:
    file_stats = {key(i): (i, i) for i in range(n)}
    file_stats["new.wav"] = (1, 1)
    store = open_store(folder)
    timer = Timer()
    absent = store.missing(file_stats, lambda name: name)
    return {**timer.seconds(), "missing": len(absent)}


def one_machine(folder: Path, n: int) -> dict[str, float]:
    store = open_store(folder)
    len(store)
    start = n // 2 // MACHINE * MACHINE
    keys = [key(i) for i in range(start, start + MACHINE)]
    before = bytes_read()
    began = time.perf_counter()
    rows = store.read(keys)
    seconds = time.perf_counter() - began
    return {
        "ms": seconds * 1e3,
        "bytes read over bytes asked": (bytes_read() - before) / rows.nbytes,
    }


def half(folder: Path, n: int) -> dict[str, float]:
    store = open_store(folder)
    keys = [key(i) for i in range(MACHINE)]
    before, size = store.read(keys), store.path.stat().st_size
    store.convert("float16")
    after = store.read(keys)
    off = np.abs(after - before) / np.maximum(np.abs(before), 1e-4)
    return {"size": store.path.stat().st_size / size, "largest relative error": float(off.max())}


STEPS = {
    step.__name__: step
    for step in (append, build, disk, merge, open_keys, open_names, missing, one_machine, half)
}


def rows_of(found: dict[str, float]) -> list[dict]:
    """Make the rows of a record; processor time has a ratio where a peer was measured, too."""
    peers = {"open_keys: processor seconds": "open_names: processor seconds"}
    for dim in (128, 768, 2048):
        ours, theirs = "ours", "one growing file + fsync"
        named = f"append: {dim}-d, {{}}, processor"
        peers[named.format(ours)] = named.format(theirs)
    return [
        {"name": name, "value": value}
        | ({"ratios": {"cpu": found[peers[name]] / value}} if name in peers and value else {})
        for name, value in found.items()
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--folder", type=Path, default=None, help="a folder on the disk to test")
    arguments.add_argument("--json", type=Path, help="folder to write a record to")
    arguments.add_argument("--step", choices=STEPS, default="", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.step:
        print(json.dumps(STEPS[given.step](given.folder, given.rows)))
        return
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(f"{given.rows:,} rows of {DIM} float32; goals: {GOALS}")
        for step in STEPS:
            words = [sys.executable, __file__, "--step", step, "--rows", str(given.rows)]
            ran = subprocess.run(
                [*words, "--folder", folder], check=True, stdout=subprocess.PIPE, text=True
            )
            for what, value in json.loads(ran.stdout).items():
                print(f"{step:12} {what:45} {value:12.4g}")
                found[f"{step}: {what}"] = value
    if given.json:
        note = f"{given.rows:,} rows of {DIM} float32"
        save(
            make_record("cache", {"value": "", "cpu": "over the peer"}, rows_of(found), note),
            given.json,
        )


if __name__ == "__main__":
    main()
