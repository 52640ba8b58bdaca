"""Finished runs for tests that read them back: a grid with seeds, and a run of other clips."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from small_recordings import write_recordings

from pipeline.job import run


@dataclass(frozen=True)
class Finished:
    """Where a grid and a single run are, and what the grid printed."""

    grid: Path
    single: Path
    data: Path


def finish_jobs(root: Path) -> Finished:
    """Run a grid of two detectors, one of them with two seeds, and a single run, in `root`."""
    data = write_recordings(root / "dev_data")
    before = Path.cwd()
    os.chdir(root)
    try:
        grid = run(
            encoder="logmel",
            detector=["knn", "iforest"],
            set=["iforest.n_estimators=3"],
            seeds=2,
            quiet=True,
        )
        single = run(encoder="wave", detector="knn", quiet=True)
    finally:
        os.chdir(before)
    return Finished((root / grid.folder).absolute(), (root / single.folder).absolute(), data)
