"""Remarks on training clips are printed once, logged, and cost nothing when they fail."""

from pathlib import Path

import numpy as np

from detect.fitting import ClipTable, units
from pipeline.journal import Journal
from pipeline.remarks import remark_copies, remark_outliers
from pipeline.sources import Source

KEYS = tuple(f"{i:02d}.wav" for i in range(12))
TABLE = ClipTable(
    KEYS, ("fan",) * 12, ("id_00",) * 11 + ("id_02",), ("train",) * 10 + ("test", "train"),
    ("normal",) * 12,
)  # fmt: skip


class Kept(Journal):
    """Keeps the events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def log(self, event, **facts):
        self.events.append(event)


def source(read, hashes=dict) -> Source:
    return Source("logmel", "mean", Path("store.h5"), read, frozenset(KEYS), hashes)


def test_a_clip_unlike_the_rest_is_named(capsys, rng):
    row_of = dict(zip(KEYS, rng.normal(size=(12, 3)), strict=True))
    row_of["03.wav"] = row_of["03.wav"] + 100.0
    journal = Kept()

    found = remark_outliers(
        units(TABLE)[:1], source(lambda k: np.stack([row_of[x] for x in k])), journal, quiet=False
    )

    assert [clip.key for clip in found] == ["03.wav"]
    assert journal.events == ["training clip unlike the rest"]
    assert "worth a listen: first '03.wav'" in capsys.readouterr().err


def test_vectors_that_cannot_be_read_cost_the_remark(capsys):
    def read(_):
        raise OSError("the disk is gone")

    journal = Kept()

    assert remark_outliers(units(TABLE)[:1], source(read), journal, quiet=False) == []
    assert journal.events == ["training clips not compared"]
    assert capsys.readouterr().err == ""


def test_copies_of_training_clips_are_named_by_the_hashes_of_any_source(capsys):
    hashes = {key: key for key in KEYS} | {"10.wav": "00.wav", "11.wav": "01.wav"}
    journal = Kept()

    sources = [source(None), source(None, lambda: hashes)]
    remark_copies(TABLE, sources, journal, quiet=False)

    assert journal.events == ["copied clip"] * 2
    err = capsys.readouterr().err
    assert "2 clips are copies of training clips; first: the test clip '10.wav'" in err
