"""How long a process takes that has little to compute, over one that only imports scikit-learn.

    python benchmarks/bench_reruns.py --rounds 7

Re-runs of 300 demo clips with everything in the cache, the check of one clip, `--help`, and a grid
of 20 cached combinations. Processes take turns; figures are medians of their processor time, worker
processes included. `--front-end` measures `logmel` from wav file to vector, per clip of 10 s;
`--stored 100000` a re-run on so many stored vectors of 768 numbers beside a script that reads the
same file and fits by numpy.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

DOOR = Path(__file__).resolve().parent.parent / "run_pipeline.py"
BASE = ["-c", "import numpy, sklearn.covariance"]
GRID = [
    "--encoder=logmel",
    "--pooling=fluctuation,mean,max,mean_max",
    "--detector=mahalanobis,knn,gmm,ocsvm,lof",
]
GOALS = {"re-run": 1.6, "check of one clip": 1.6, "grid of 20": 3.0}
MACHINES, DIM = 100, 768


def processor_seconds(arguments: list[str], folder: Path) -> float:
    """Run Python in a folder and return the processor time of it and of its children."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(DOOR.parent)},
    )
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 4):
        raise SystemExit(f"{arguments} ended with {process.returncode}: {errors.decode()}")
    return usage.ru_utime + usage.ru_stime


def in_turns(ways: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, float]:
    """Return the median processor time of each way; all take their turn in every round."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, arguments in ways.items():
            seconds[name].append(processor_seconds(arguments, folder))
    return {name: statistics.median(values) for name, values in seconds.items()}


def reruns(folder: Path, rounds: int) -> None:
    """Print the ratios of commands to a process that imports numpy and scikit-learn."""
    door = str(DOOR)
    for arguments in (
        ["--data=demo", "--quiet"],
        ["--data=demo", "--quiet", *GRID],
        ["learn", "demo_data", "--model=m"],
    ):
        processor_seconds([door, *arguments], folder)
    clip = str(next(folder.glob("demo_data/slider/test/*.wav")).relative_to(folder))
    ways = {
        "numpy and scikit-learn": BASE,
        "re-run": [door, "--data=demo", "--quiet"],
        "re-run, figures drawn": [door, "--data=demo", "--quiet", "--out=fresh"],
        "check of one clip": [door, "check", clip, "--model=m", "--machine=slider id_00"],
        "--help": [door, "--help"],
        "grid of 20": [door, "--data=demo", "--quiet", *GRID],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        fresh = {**ways, "re-run, figures drawn": [door, "--data=demo", f"--out=fresh{number}"]}
        for name, arguments in fresh.items():
            seconds[name].append(processor_seconds(arguments, folder))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print("| | processor s | over the first | goal |\n|---|---|---|---|")
    for name, median in medians.items():
        ratio = median / medians["numpy and scikit-learn"]
        print(f"| {name} | {median:.2f} | {ratio:.2f} | {GOALS.get(name, '')} |")


def front_end(folder: Path, rounds: int) -> None:
    """Print the processor time of `logmel` per clip of 10 s, part by part."""
    import soundfile
    from scipy.fft import rfft

    from embed import make_encoder, make_pooling
    from embed.recordings.audio import Need, load_for
    from embed.recordings.preprocessing import Preprocessing

    encoder, pooling = make_encoder("logmel"), make_pooling("fluctuation")
    path = folder / "clip.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, 160_000).astype(np.float32)
    soundfile.write(path, samples, 16_000, "PCM_16")
    need, plain, content = Need(16_000, 1024), Preprocessing(), path.read_bytes()
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, 512), 1024)[::512].copy()
    ways: dict[str, Callable[[], object]] = {
        "one real FFT per frame alone": lambda: rfft(frames, axis=1, workers=1),
        "wav file to waveform": lambda: load_for(path, [need], plain),
        "of which SHA-256": lambda: hashlib.sha256(content).hexdigest(),
        "soundfile.read": lambda: soundfile.read(path, dtype="float32"),
        "waveform to vector": lambda: encoder.encode(samples[None], [pooling]),
    }
    print("| | processor ms a clip |\n|---|---|")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(20 * rounds):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            times[name].append(1e3 * (time.process_time() - begin))
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.2f} |")


def stored(folder: Path, rounds: int, n_clips: int) -> None:
    """Print what a re-run on stored vectors takes, and a script that reads them and fits.

    The recordings are empty files, since nobody opens them.
    """
    write_stored(folder, n_clips)
    (folder / "by_hand.py").write_text(BY_HAND)
    (file,) = (folder / "embeddings").glob("*.h5")
    run = [str(DOOR), "--encoder=logmel", "--pooling=mean", f"--set=logmel.n_mels={DIM}"]
    ways = {
        "numpy and scikit-learn": BASE,
        "read and fit by numpy": ["by_hand.py", str(file)],
        "re-run": [*run, "--detector=mahalanobis", "--quiet"],
    }
    print("| | processor s |\n|---|---|")
    for name, median in in_turns(ways, folder, rounds).items():
        print(f"| {name} | {median:.2f} |")


def write_stored(folder: Path, n_clips: int) -> None:
    """Write a data set of empty recordings, and a cache that holds a random vector of each."""
    from cache.store import EmbeddingStore
    from embed import make_encoder, make_pooling
    from embed.fingerprint import configuration, fingerprint
    from embed.recordings.clips import find_clips
    from embed.recordings.preprocessing import Preprocessing

    root = folder / "dev_data"
    for split in ("train", "test"):
        (root / "fan" / split).mkdir(parents=True)
    for number in range(n_clips):
        machine, i = number % MACHINES, number // MACHINES
        split = "train" if i % 5 else "test"
        label = "anomaly" if i % 10 == 0 else "normal"
        (root / "fan" / split / f"{label}_id_{machine:02d}_{i:08d}.wav").touch()
    dataset = find_clips(root)
    facts = configuration(make_encoder("logmel", n_mels=DIM), Preprocessing(), make_pooling("mean"))
    store = EmbeddingStore.open(
        folder / "embeddings",
        data_name=dataset.name,
        data_root=dataset.root,
        encoder="logmel",
        pooling="mean",
        fingerprint=fingerprint(facts),
        configuration=facts,
    )
    rng = np.random.default_rng(0)
    stats = dataset.file_stats()
    keys = list(stats)
    for start in range(0, len(keys), 2000):
        part = keys[start : start + 2000]
        vectors = rng.normal(size=(len(part), DIM)).astype(np.float32)
        files = [(*stats[key], hashlib.sha256(key.encode()).hexdigest()) for key in part]
        store.append(part, vectors, files)
    store.merge()


BY_HAND = """
import sys
import h5py
import numpy as np

with h5py.File(sys.argv[1]) as file:
    X, names = file["embeddings"][:], file["filenames"][:]
machine = np.array([name.split(b"_id_")[1][:2] for name in names])
is_train = np.array([b"/train/" in name for name in names])
for each in np.unique(machine):
    train, test = X[(machine == each) & is_train], X[(machine == each) & ~is_train]
    mean = train.mean(axis=0)
    covariance = np.cov((train - mean).T) + 1e-3 * np.eye(X.shape[1])
    half = np.linalg.solve(np.linalg.cholesky(covariance), (test - mean).T)
    scores = (half**2).sum(axis=0)
"""


def main() -> None:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--front-end", action="store_true")
    parser.add_argument("--stored", type=int, default=0, metavar="CLIPS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.front_end:
            front_end(folder, options.rounds)
        elif options.stored:
            stored(folder, options.rounds, options.stored)
        else:
            reruns(folder, options.rounds)


if __name__ == "__main__":
    main()
