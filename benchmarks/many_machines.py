"""Thousands of machine IDs through the whole job: processor time, clock, memory and disk.

    python benchmarks/many_machines.py --machines 10000 --folder /somewhere/large

Each machine ID has 150 normal training clips and 50 test clips of 768 dimensions, which come as
another tool's HDF5 file. 10,000 need about 30 GB of disk. All is deleted afterwards.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from process_trees import sampled_memory

ROOT = Path(__file__).parent.parent
DIM = 768
SPLITS = {"train/normal": 150, "test/normal": 25, "test/anomaly": 25}
CLIPS = sum(SPLITS.values())


def write_vectors(path: Path, n_machines: int) -> None:
    """Write vectors that vary in a few directions mostly; anomalous clips lie a little apart."""
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((16, DIM), dtype=np.float32)
    shift = np.zeros((CLIPS, 1), np.float32)
    shift[-SPLITS["test/anomaly"] :] = 0.1
    with h5py.File(path, "w") as file:
        vectors = file.create_dataset("embeddings", (n_machines * CLIPS, DIM), np.float32)
        names = file.create_dataset("filenames", (n_machines * CLIPS,), h5py.string_dtype())
        for machine in range(n_machines):
            rows = slice(machine * CLIPS, (machine + 1) * CLIPS)
            drawn = rng.standard_normal((CLIPS, 16), dtype=np.float32) @ mixing
            noise = rng.standard_normal((CLIPS, DIM), dtype=np.float32)
            vectors[rows] = drawn + 0.3 * noise + shift
            names[rows] = [
                f"fan/{split}_id_{machine:05d}_{i:08d}.wav"
                for split, n in SPLITS.items()
                for i in range(n)
            ]


def size_of(folder: Path) -> tuple[float, int, int]:
    """Return a folder's GB, its files, and the most entries that one of its folders has."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    files = [path for each in folders for path in each.iterdir() if path.is_file()]
    largest = max(sum(1 for _ in each.iterdir()) for each in folders)
    return sum(path.stat().st_size for path in files) / 1e9, len(files), largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where the files lie for a while")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_vectors(folder / "theirs.h5", options.machines)
        command = [sys.executable, str(ROOT / "run_pipeline.py"), "--detector", "mahalanobis"]
        command += ["--embeddings", str(folder / "theirs.h5"), "--workers", str(options.workers)]
        command += ["--cache-dir", str(folder / "cache"), "--out", str(folder / "runs"), "--quiet"]
        start = time.monotonic()
        with (folder / "printed").open("w") as printed:
            job = subprocess.Popen(command, stdout=printed)
            with sampled_memory(job.pid) as samples:
                job.wait()
        clock_s = time.monotonic() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print("\n".join((folder / "printed").read_text().splitlines()[-3:]))
        print(
            f"{options.machines} machine IDs, exit code {job.returncode}: processor "
            f"{used.ru_utime + used.ru_stime:.0f} s ({used.ru_stime:.0f} of it the system's), "
            f"clock {clock_s:.0f} s; largest process {used.ru_maxrss / 1e6:.2f} GB, all together "
            f"{max(sample[2] for sample in samples) / 1000:.2f} GB"
        )
        for part in (folder / "cache", *(folder / "runs").iterdir()):
            gigabytes, files, largest = size_of(part)
            print(f"{part.name}: {gigabytes:.2f} GB, {files} files, at most {largest} in a folder")


if __name__ == "__main__":
    main()
