"""After a power cut at any step, everything that was acknowledged is there."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from power_cuts import Recorder, after_a_cut
from store_worker import KEYS, content, open_store, vector


def run_and_record(root: Path) -> Recorder:
    """Embed twice into one cache, with merges between, and note every step."""
    recorder = Recorder(root)
    with recorder.recording():
        store = open_store(root / "cache")
        for generation in (1, 2):
            for start in range(0, 40, 8):
                keys = KEYS[start : start + 8]
                rows = np.stack([vector(key, generation) for key in keys])
                store.append(keys, rows, [content(key, generation) for key in keys])
                for key in keys:
                    recorder.acknowledge(f"{generation} {key}")
                if start == 16:
                    store.merge()
            store.merge()
    return recorder


def cut_everywhere(tmp_path: Path, n_disks: int) -> dict[str, int]:
    """Cut the power after every step, with `n_disks` possible disks each, and check them."""
    root = tmp_path / "disk"
    root.mkdir()
    recorder = run_and_record(root)
    rng = random.Random(0)
    counts = {"steps": len(recorder.steps), "disks": 0, "acknowledged rows": 0}
    for n in range(len(recorder.steps) + 1):
        for _ in range(n_disks):
            found = tmp_path / "after"
            shutil.rmtree(found, ignore_errors=True)
            found.mkdir()
            acknowledged = after_a_cut(recorder.steps[:n], found, rng)
            counts["acknowledged rows"] += check(found, acknowledged)
            counts["disks"] += 1
    return counts


def check(disk: Path, acknowledged: frozenset[str]) -> int:
    """Every acknowledged row is there, in this generation or a later one, and right."""
    newest: dict[str, int] = {}
    for word in sorted(acknowledged):
        generation, _, key = word.partition(" ")
        newest[key] = int(generation)
    store = open_store(disk / "cache")
    provenance = store.provenance()
    assert newest.keys() <= provenance.keys()
    for key, row in zip(provenance, store.read(list(provenance)), strict=True):
        generation = provenance[key].size
        assert generation >= newest.get(key, 0)
        assert np.array_equal(row, vector(key, generation)), f"a wrong row for {key}"
    return len(newest)


def say(capsys: pytest.CaptureFixture[str], counts: dict[str, int]) -> None:
    with capsys.disabled():
        print("\npower cuts:", ", ".join(f"{n} {what}" for what, n in counts.items()))


def test_a_power_cut_after_any_step_loses_nothing_that_was_acknowledged(tmp_path, capsys):
    counts = cut_everywhere(tmp_path, 1)

    say(capsys, counts)
    assert counts["acknowledged rows"] > 1000


@pytest.mark.faults
def test_many_disks_after_each_power_cut_lose_nothing_that_was_acknowledged(tmp_path, capsys):
    counts = cut_everywhere(tmp_path, 40)

    say(capsys, counts)
    assert counts["disks"] > 2000


@pytest.mark.parametrize("forgotten", ["fsync of files", "fsync of folders"])
def test_the_model_notices_a_store_that_does_not_synchronise(tmp_path, forgotten):
    (tmp_path / "disk").mkdir()
    recorder = run_and_record(tmp_path / "disk")
    what = "sync" if forgotten == "fsync of files" else "sync_folder"
    recorder.steps = [step for step in recorder.steps if step.what != what]
    rng = random.Random(0)
    lost = 0

    for n in range(0, len(recorder.steps), 3):
        found = tmp_path / f"after{n}"
        found.mkdir()
        acknowledged = after_a_cut(recorder.steps[:n], found, rng)
        try:
            check(found, acknowledged)
        except (AssertionError, OSError, ValueError):
            lost += 1

    assert lost > 5
