"""Many short clips through `logmel`, the cache and `auto`, while things go wrong.

    python benchmarks/soak.py --clips 10000 --folder /somewhere/large

One clip in a hundred is a file that cannot be used. The cache is a small file system in memory.
Each of two jobs, `--encoder logmel` and `auto`, is killed (`kill -9`) while it adds rows and
started again; then the cache's disk becomes full for a minute, then read-only for a minute, while
the job runs and is started again whenever it ends. A last run is left alone. Its vectors and
scores are compared with those of runs that nothing disturbed, whose rate and memory are the
figures. Needs Linux and root, who may mount.
"""

import argparse
import csv
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import wave
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from process_trees import sampled_memory

from cache.store import EmbeddingStore, stores_in

RUN = [sys.executable, str(Path(__file__).parent.parent / "run_pipeline.py")]
RATE = 16_000
CLIPS_PER_MACHINE = 1000
SPLITS = {"train/normal": 800, "test/normal": 100, "test/anomaly": 100}
JOBS = {"logmel": ["--encoder", "logmel"], "auto": []}
ONE_IS_BAD_OF = 100


def write_clips(root: Path, n: int) -> tuple[set[str], set[str]]:
    """Write n clips of 1 s, 1,000 of each machine ID; return the keys of good and of bad ones."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1000, 60 * RATE)
    order = [split for split, count in SPLITS.items() for _ in range(count)]
    good: set[str] = set()
    bad: set[str] = set()
    for number in range(n):
        machine, i = divmod(number, CLIPS_PER_MACHINE)
        split = order[i]
        path = root / "fan" / f"{split}_id_{machine:03d}_{i:08d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        start = int(rng.integers(len(noise) - RATE))
        level = rng.uniform(0.8, 1.2) * (1.3 if "anomaly" in split else 1)
        samples = (level * noise[start : start + RATE]).astype("<i2")
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        key = path.relative_to(root).as_posix()
        if number % ONE_IS_BAD_OF == 7:
            spoil(path, (number // ONE_IS_BAD_OF) % 4)
            bad.add(key)
        else:
            good.add(key)
    return good, bad


def spoil(path: Path, way: int) -> None:
    """Make a file unusable: empty, only half a header, random bytes, or text."""
    content = path.read_bytes()
    noise = np.random.default_rng(way).bytes(2000)
    path.write_bytes([b"", content[:20], noise, b"no sound\n" * 100][way])


@dataclass
class Soak:
    """One job under faults: where it works, and what happened."""

    name: str
    data: Path
    cache: Path
    out: Path
    log: Path
    codes: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[Path, set[str]] = field(default_factory=dict)
    lost: int = 0
    largest_mb: float = 0.0

    def start(self) -> subprocess.Popen[bytes]:
        command = [*RUN, "--data", str(self.data), *JOBS[self.name], "--quiet"]
        command += ["--cache-dir", str(self.cache), "--out", str(self.out)]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def appending(self, job: subprocess.Popen[bytes], before: set[Path], more_s: float) -> None:
        """Wait until the job has added a part to the cache, and so many seconds more, or ended."""
        while job.poll() is None and not self.parts() - before:
            time.sleep(0.02)
        with suppress(subprocess.TimeoutExpired):
            job.wait(more_s)

    def parts(self) -> set[Path]:
        return set(self.cache.glob("*.parts/*.npy"))

    def killed(self, more_s: float) -> None:
        """Start the job and kill it so many seconds after its first new rows, unless it ended."""
        before = self.parts()
        job = self.start()
        with sampled_memory(job.pid) as samples:
            self.appending(job, before, more_s)
            job.kill()
            code = job.wait()
        self._note("killed" if code == -signal.SIGKILL else f"exit code {code}", samples)

    def tried_for(self, seconds: float, what: str) -> None:
        """Start the job again and again until the time is over; the last one may go on."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.start()
            with sampled_memory(job.pid) as samples:
                code = job.wait()
            self._note(f"{what}: exit code {code}", samples)

    def _note(self, what: str, samples: Sequence[tuple[float, float, float]]) -> None:
        """Count what happened, and how many rows are gone that were there before."""
        self.codes[what] += 1
        self.largest_mb = max([self.largest_mb, *(sample[2] for sample in samples)])
        now = {path: set(EmbeddingStore.at(path).keys()) for path in stores_in(self.cache)}
        for path, keys in self.acknowledged.items():
            self.lost += len(keys - now.get(path, set()))
        self.acknowledged = now


@contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """Mount a file system of that size."""
    folder.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    subprocess.run(size, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder to its last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for block in (2**20, 2**12, 1):
            try:
                while file.write(b"x" * block) == block:
                    pass
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Make a folder read-only for all that is opened from now on, root's included."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def under_faults(soak: Soak, kills: int, minute_s: float) -> None:
    """Kill the job, fill its disk, make it read-only, and let it finish at last."""
    draw = random.Random(soak.name)
    for _ in range(kills):
        soak.killed(draw.uniform(0, 1))
    for fault, name in ((full, "disk full"), (read_only, "read-only")):
        before = soak.parts()
        job = soak.start()
        soak.appending(job, before, draw.uniform(0, 1))
        with fault(soak.cache), sampled_memory(job.pid) as samples:
            code = job.wait()
            soak._note(f"{name} while it ran: exit code {code}", samples)
            soak.tried_for(minute_s, name)
    soak.killed(draw.uniform(0, 1))
    soak.tried_for(0.001, "last run")


def undisturbed(soak: Soak) -> str:
    """Fill another cache with nothing in the way, then run the job; say rate and memory."""
    n = sum(1 for _ in soak.data.rglob("*.wav"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    command = [*RUN, "embed", "--data", str(soak.data), *JOBS[soak.name], "--quiet"]
    command += ["--cache-dir", str(soak.cache), "--out", str(soak.out)]
    with soak.log.open("ab") as log:
        job = subprocess.Popen(command, stdout=log, stderr=log)
        with sampled_memory(job.pid) as samples:
            job.wait()
    clock = time.monotonic() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    soak.tried_for(0.001, "undisturbed")
    sizes = np.array([sample[2] for sample in samples])
    quarters = [part.mean() for part in np.array_split(sizes, 4)]
    return (
        f"{n / clock:.0f} clips/s by the clock, {n / processor:.0f} per second of processor time; "
        f"MB in the quarters of its time {', '.join(f'{mb:.0f}' for mb in quarters)}, "
        f"at most {sizes.max():.0f}; second to last quarter {quarters[3] / quarters[1] - 1:+.1%}"
    )


def scores_of(out: Path) -> dict[str, str]:
    """Read each test clip's score in the newest run that has any; ValueError for a clip twice."""
    newest = max(out.glob("*/ranking.csv"))
    with newest.open(newline="") as file:
        rows = list(csv.DictReader(file))
    scores = {row["key"]: row["anomaly_score"] for row in rows}
    if len(scores) != len(rows):
        raise ValueError(f"{newest} has {len(rows)} rows of {len(scores)} clips")
    return scores


def reasons_of(out: Path) -> set[str]:
    """Read which clips the newest run with a ranking left out."""
    file = max(out.glob("*/ranking.csv")).parent / "errors.jsonl"
    return {json.loads(line)["key"] for line in file.read_text().splitlines()}


def compared(soak: Soak, calm: Soak, good: set[str], bad: set[str]) -> list[str]:
    """Count what is missing, wrong or too much after the last run."""
    lines = []
    paths = sorted(stores_in(soak.cache))
    if [path.name for path in paths] != [path.name for path in sorted(stores_in(calm.cache))]:
        lines.append(f"WRONG: other stores, {paths}")
    for path in paths:
        mine, theirs = EmbeddingStore.at(path), EmbeddingStore.at(calm.cache / path.name)
        keys = sorted(good & set(mine.keys()))
        n_wrong = 0
        for part in np.array_split(np.array(keys), max(1, len(keys) // 4096)):
            same = mine.read(part.tolist()) == theirs.read(part.tolist())
            n_wrong += int((~same.all(axis=1)).sum())
        lines.append(
            f"{path.stem}: {len(keys)} of {len(good)} rows, "
            f"{len(set(mine.keys()) - good)} too many, {n_wrong} not as undisturbed"
        )
    scores, expected = scores_of(soak.out), scores_of(calm.out)
    tested = {key for key in good if "/test/" in key}
    lines.append(
        f"scores: {len(scores.keys() & tested)} of {len(tested)}, "
        f"{len(scores.keys() - tested)} too many, "
        f"{sum(scores[key] != expected.get(key) for key in scores)} not as undisturbed; "
        f"bad files named: {len(reasons_of(soak.out) & bad)} of {len(bad)}, "
        f"others named: {len(reasons_of(soak.out) - bad)}; "
        f"acknowledged rows lost after a fault: {soak.lost}"
    )
    left = [path.name for path in soak.cache.iterdir() if path.suffix not in (".h5", ".lock")]
    lines.append(f"left beside the stores: {', '.join(left) or 'nothing'}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=4, help="of each job")
    parser.add_argument("--minute", type=float, default=60, help="seconds that a fault lasts")
    parser.add_argument("--folder", type=Path, help="where the clips lie for a while")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root may mount the file system that becomes full and read-only")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        data = folder / "data"
        good, bad = write_clips(data, options.clips)
        print(f"{len(good)} clips and {len(bad)} files that cannot be used", flush=True)
        megabytes = 20 + options.clips * 4 // 1000
        with disk(folder / "cache", megabytes) as cache:
            for job in JOBS:
                (cache / job).mkdir()
                soak = Soak(job, data, cache / job, folder / f"runs-{job}", folder / "printed")
                under_faults(soak, options.kills, options.minute)
                calm = Soak(
                    job, data, folder / f"calm-{job}", folder / f"calm-runs-{job}", soak.log
                )
                print(f"{job}, undisturbed: {undisturbed(calm)}", flush=True)
                print(f"{job}, under faults: {dict(soak.codes)}, {soak.largest_mb:.0f} MB at most")
                print(*compared(soak, calm, good, bad), sep="\n", flush=True)


if __name__ == "__main__":
    main()
