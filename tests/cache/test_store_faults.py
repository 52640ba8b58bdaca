"""Kill it, fill the disk, take the folder away: what was acknowledged is there afterwards."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from store_worker import KEYS, content, environment, fill, open_store, vector

ROOT = Path(__file__).resolve().parents[2]


def kill_at_random(directory: Path, n_kills: int) -> dict[str, int]:
    """Kill embedding runs of one cache at random moments, and check the cache after each."""
    rng = random.Random(n_kills)
    acknowledged: dict[str, int] = {}
    generation = 1
    counts = {"kills": 0, "in a merge": 0, "finished": 0, "acknowledged rows": 0}
    worker = subprocess.Popen(
        [sys.executable, "-m", "store_worker", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        text=True,
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        while counts["kills"] < n_kills:
            print(generation, rng.randrange(10**6), file=worker.stdin, flush=True)
            pid = int(worker.stdout.readline().split()[1])
            last = listen(worker.stdout, rng.randrange(22), acknowledged, generation)
            time.sleep(rng.random() * 0.02)
            with suppress(ProcessLookupError):  # it may be done already
                os.kill(pid, signal.SIGKILL)
            while (line := listen(worker.stdout, 1, acknowledged, generation)) != "over":
                last = line
            finished = last == "done"
            counts["finished" if finished else "kills"] += 1
            counts["in a merge"] += last == "merging"
            check(directory, acknowledged)
            generation += finished
    finally:
        worker.stdin.close()
        worker.wait()
    counts["acknowledged rows"] = (generation - 1) * len(KEYS) + sum(
        each == generation for each in acknowledged.values()
    )
    return counts


def listen(
    said: IO[str], n_lines: int, acknowledged: dict[str, int], generation: int, last: str = ""
) -> str:
    """Note what a run acknowledges, for so many lines or until it is over; return the last."""
    for _ in range(n_lines):
        line = said.readline().strip()
        last = line
        if line in ("over", "done"):
            break
        if line.startswith("ack"):
            acknowledged.update(dict.fromkeys(line.split()[2:], generation))
    return last


def say(capsys: pytest.CaptureFixture[str], counts: dict[str, int]) -> None:
    with capsys.disabled():
        print("\nkill -9:", ", ".join(f"{n} {what}" for what, n in counts.items()))


def check(directory: Path, acknowledged: dict[str, int]) -> None:
    """Every acknowledged row is there, and every row is the right one for its content."""
    store = open_store(directory)
    contents = store.provenance()
    rows = store.read(list(contents))
    assert set(acknowledged) <= set(contents)
    for (key, (size, mtime, sha256)), row in zip(contents.items(), rows, strict=True):
        assert size >= acknowledged.get(key, 0)
        assert (size, mtime, sha256) == content(key, size)
        assert np.array_equal(row, vector(key, size)), f"a wrong row for {key}"


def test_killed_runs_lose_nothing_that_was_acknowledged(tmp_path, capsys):
    counts = kill_at_random(tmp_path, 15)

    say(capsys, counts)
    assert counts["acknowledged rows"] > 0


@pytest.mark.faults
def test_five_hundred_killed_runs_lose_nothing_that_was_acknowledged(tmp_path, capsys):
    counts = kill_at_random(tmp_path, 500)

    say(capsys, counts)
    assert counts["in a merge"] > 20


@pytest.fixture
def small_disk(mount_disk) -> Path:
    return mount_disk("256k")


def test_full_disk_stops_appending_and_loses_nothing(small_disk):
    store = open_store(small_disk / "cache")
    kept, error = fill(store)

    assert error is not None
    assert error.errno == errno.ENOSPC
    assert "the disk is full; free some space, or use another --cache-dir" in str(error)
    assert kept
    assert not list(store.parts_folder.glob("*.tmp"))
    expected = np.repeat(np.stack([vector(key, 1) for key in kept]), 64, axis=1)
    assert np.array_equal(store.read(kept), expected)


def test_full_disk_stops_merging_and_the_parts_stay(small_disk):
    store = open_store(small_disk / "cache")
    kept, _ = fill(store)
    before = sorted(path.name for path in store.parts_folder.glob("part-*"))

    with pytest.raises(OSError, match="merging stopped; its parts stay: the disk is full"):
        store.merge()

    assert sorted(path.name for path in store.parts_folder.glob("part-*")) == before
    assert not list(store.path.parent.glob(".*.tmp"))
    expected = np.repeat(np.stack([vector(key, 1) for key in kept]), 64, axis=1)
    assert np.array_equal(store.read(kept), expected)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    store.merge()
    assert np.array_equal(store.read(kept), expected)
