"""A grid goes on where it was interrupted, and only where it would give the same figures."""

import json
import os
from pathlib import Path

import pytest

from pipeline.grid import grid_folder
from pipeline.job import run
from pipeline.settings import Settings
from pipeline.sources import find_dataset

FLAGS = {"encoder": "logmel", "pooling": "mean", "detector": "knn,pca", "quiet": True}
KNN, PCA = "logmel-mean-knn", "logmel-mean-pca"


@pytest.fixture
def grid(data) -> Path:
    """Have a grid that was interrupted after all of its combinations."""
    folder = run(**FLAGS).folder
    (folder / "leaderboard.csv").unlink()
    return folder.absolute()


def stamps(folder: Path) -> dict[str, int]:
    return {name: (folder / name / "results.json").stat().st_mtime_ns for name in (KNN, PCA)}


def test_what_is_finished_is_kept_and_its_figures_are_in_the_leaderboard(grid):
    before = stamps(grid)

    job = run(**FLAGS)

    assert job.folder.absolute() == grid
    assert stamps(grid) == before
    assert [len(outcome.results) for outcome in job.outcomes] == [5, 5]
    assert (grid / "leaderboard.csv").read_text().count("logmel") == 2


def half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def failed(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"failed": "a fit failed"}))


@pytest.mark.parametrize(
    ("file", "spoil"),
    [
        ("config.toml", lambda path: os.truncate(path, 0)),
        ("config.toml", lambda path: path.write_bytes(b"\xff")),
        ("results.json", half),
        ("results.json", lambda path: path.write_text("[" * 100_000)),
        ("results.json", failed),
        ("results.json", Path.unlink),
        ("model/model.json", half),
        ("model/files/*/*/0.skops", half),
        ("model/files/*/*/machine.json", Path.unlink),
    ],
)
def test_a_combination_whose_files_are_not_whole_is_done_again(grid, file, spoil):
    before = stamps(grid)
    (path, *_) = (grid / KNN).glob(file)
    spoil(path)

    job = run(**FLAGS)

    assert (job.folder.absolute(), job.failed) == (grid, False)
    (grid / "leaderboard.csv").unlink()
    after = stamps(grid)
    assert after[KNN] != before[KNN]
    assert after[PCA] == before[PCA]
    run(**FLAGS)
    assert stamps(grid) == after


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"x = 3", b"provenance = 3", b"a = " + b"[" * 9999]
)
def test_an_old_folder_with_any_config_is_passed_by(grid, content):
    (grid / "config.toml").write_bytes(content)

    assert run(**FLAGS).folder.absolute() != grid


def changed_version(data, monkeypatch):
    monkeypatch.setattr("pipeline.grid.installed_version", lambda: "another")


def changed_pooling(data, monkeypatch):
    monkeypatch.setattr("embed.pooling.Mean.version", 99, raising=False)


def changed_clip(data, monkeypatch):
    os.utime(next(data.rglob("*.wav")), (1, 1))


@pytest.mark.parametrize("change", [changed_version, changed_pooling, changed_clip])
def test_another_code_or_another_clip_is_another_grid(grid, data, monkeypatch, change):
    change(data, monkeypatch)

    assert run(**FLAGS).folder.absolute() != grid


def test_other_weights_are_another_grid(data):
    weights, settings = Path("resnet.safetensors"), Settings(detector="resnet50_cnn")
    identities = []
    for content in (b"one", b"two", b"one"):
        weights.write_bytes(content)
        paths = {"resnet50_cnn": str(weights.absolute())}
        folder = grid_folder(settings, find_dataset(settings), [], paths)
        identities.append(folder.identity)

    assert identities[0] == identities[2] != identities[1]


def test_how_much_is_printed_and_by_how_many_threads_makes_no_other_grid(grid):
    assert run(**FLAGS, workers=1, batch_size=2, offline=True).folder.absolute() == grid
