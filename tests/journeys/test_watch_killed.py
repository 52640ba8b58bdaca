"""kill -9 at any moment: no file is judged twice or forgotten, no alarm is lost or doubled."""

import json
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from machine_halls import hum, whistle, write

ROOT = Path(__file__).resolve().parents[2]
PATTERN = "nAAnnnAAnnnAA"
"""Of each machine; two of three anomalous clips are an alarm."""


class Watches:
    """The watches of one folder, which a worker runs and kills."""

    def __init__(self, folder, worker):
        self.folder, self.process = folder, worker
        for i, letter in enumerate(PATTERN):
            for j, machine in enumerate(("press7", "press8")):
                sound = (whistle if letter == "A" else hum)(900 + i, 120.0 + 90 * j)
                path = write(folder / "incoming" / machine / f"{i:02d}.wav", sound)
                when = 1_700_000_000 + 100 * i + j
                os.utime(path, (when, when))

    def run(self, most_calls=float("inf")):
        self.process.stdin.write(f"{self.folder} {most_calls}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    @property
    def told(self):
        """Messages by id; a line that a kill cut short is not one."""
        lines = (self.folder / "told.jsonl").read_text().splitlines()
        whole = [json.loads(line) for line in lines if line.endswith("}")]
        return Counter((m["id"], m["kind"], m["machine"]) for m in whole)

    def rows(self, query):
        with sqlite3.connect(self.folder / "watch" / "watch.sqlite") as connection:
            rows = connection.execute(query).fetchall()
        connection.close()
        return rows


def trial(folder, model, n_kills, keep_sound="0"):
    """Kill a watch so often, then let it finish; compare with one that was never killed."""
    worker = subprocess.Popen(
        [sys.executable, ROOT / "tests/watch_worker.py", model, keep_sound],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    whole, killed = Watches(folder / "whole", worker), Watches(folder / "killed", worker)
    assert whole.run() == 4
    n_calls = int((folder / "whole" / "calls").read_text())
    rng = random.Random(0)
    codes = []
    for number in range(n_kills):
        if number % 8 == 7:  # the same files anew, so that all moments are met again
            killed.run()
            compare(whole, killed)
            for file in (folder / "killed" / "watch").glob("watch.sqlite*"):
                file.unlink()
            (folder / "killed" / "told.jsonl").unlink()
        codes.append(killed.run(rng.uniform(0.02, 0.4) * n_calls))
    killed.run()
    compare(whole, killed)
    worker.stdin.close()
    worker.wait(60)
    return codes


def compare(whole, killed):
    names = "SELECT machine, at, start_s, verdict FROM windows ORDER BY machine, at"
    assert killed.rows(names) == whole.rows(names)
    assert len(whole.rows(names)) == 2 * len(PATTERN)
    ids = "SELECT id, machine, started_at, ended_at FROM alarms ORDER BY id"
    assert killed.rows(ids) == whole.rows(ids)
    assert len(whole.rows(ids)) >= 4
    assert killed.told.keys() == whole.told.keys()
    assert set(whole.told.values()) == {1}
    assert killed.rows("SELECT count(*) FROM outbox") == [(0,)]


def test_a_watch_that_is_killed_goes_on_where_it_was(hall_model, tmp_path):
    codes = trial(tmp_path, hall_model, 5)

    assert -9 in codes


@pytest.mark.faults
def test_a_watch_that_is_killed_at_100_moments_goes_on_where_it_was(hall_model, tmp_path):
    codes = trial(tmp_path, hall_model, 120, "1GB")

    assert codes.count(-9) >= 100
