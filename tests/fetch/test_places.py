"""Leftovers of killed runs go, and nothing else does."""

import os
import time
from pathlib import Path

import pytest

from fetch.places import is_offline, remove_leftovers, weights_folder
from fetch.weights import WEIGHTS, published

KEPT = ("weights.bin", "weights.bin.part", ".weights.bin.lock", "config.json")
LEFT = (".weights.bin.0a1b.tmp", "tmpa1b2c3", "tmp_model", "weights.bin.partial")


def write(folder: Path, age_s: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tmp_folder.tmp" / "variables").mkdir(parents=True)
    for path in [*(folder / name for name in (*KEPT, *LEFT)), folder / "tmp_folder.tmp"]:
        if not path.is_dir():
            path.write_bytes(b"x")
        os.utime(path, (time.time() - age_s,) * 2)


def test_leftovers_of_more_than_an_hour_are_removed(tmp_path: Path) -> None:
    write(tmp_path, age_s=4000)

    remove_leftovers(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(KEPT)


def test_files_of_a_run_that_may_still_be_going_stay(tmp_path: Path) -> None:
    write(tmp_path, age_s=60)
    before = sorted(tmp_path.rglob("*"))

    remove_leftovers(tmp_path)

    assert sorted(tmp_path.rglob("*")) == before


def test_looking_for_published_weights_removes_leftovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = weights_folder("panns")
    write(folder, age_s=4000)

    with pytest.raises(OSError, match="offline was asked for"):
        published(WEIGHTS["panns"])

    assert sorted(path.name for path in folder.iterdir()) == sorted(KEPT)


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("true", True), ("0", False)])
def test_the_environment_of_the_hub_means_offline(
    value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)

    assert is_offline() is expected
    assert is_offline(True)
