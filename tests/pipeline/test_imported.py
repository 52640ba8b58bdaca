"""Vectors and frames of another tool, alone and in fusions."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.exits import UsageError
from pipeline.job import run


def names_in(data: Path) -> list[str]:
    return sorted(path.relative_to(data).as_posix() for path in data.rglob("*.wav"))


def write(path: Path, rows: np.ndarray, names: list[str]) -> Path:
    with h5py.File(path, "w") as file:
        file["embeddings"], file["filenames"] = rows.astype("f4"), names
    return path


@pytest.fixture
def frames(data, rng) -> Path:
    """Another tool's log-mel frames of the recordings, (n, 60, 128) in dB."""
    names = names_in(data)
    return write(Path("frames.h5"), rng.normal(-60, 5, (len(names), 60, 128)), names)


def test_log_mel_frames_of_another_tool_give_the_two_log_mel_members_alone(frames):
    job = run(embeddings=frames, system="auto", quiet=True)

    (outcome,) = job.outcomes
    assert [member.name for member in outcome.combination.members] == [
        "frames/fluctuation/mahalanobis", "frames/quiet/mahalanobis"
    ]  # fmt: skip
    assert outcome.combination.name == "auto"
    assert len(outcome.clips) == 12
    assert not job.failed


def test_vectors_of_another_tool_are_fused_with_ours_and_a_clip_without_a_row_is_marked(data, rng):
    names = names_in(data)
    theirs = write(Path("theirs.h5"), rng.normal(size=(len(names) - 1, 5)), names[1:])

    job = run(embeddings=theirs, data="dev_data", fuse="theirs/clip/knn,wave/clip/knn", quiet=True)

    (outcome,) = job.outcomes
    assert [key for key, _ in job.left_out] == names[:1]
    assert [c["key"] for c in outcome.clips if c.get("note")] == names[:1]
    assert len(outcome.clips) == 12


def test_vectors_cannot_be_fused_as_log_mel(data, rng):
    names = names_in(data)
    theirs = write(Path("theirs.h5"), rng.normal(size=(len(names), 5)), names)

    with pytest.raises(UsageError, match="one vector per clip"):
        run(embeddings=theirs, data="dev_data", system="auto", quiet=True)


def test_another_import_of_the_same_path_makes_another_grid(data, rng):
    names = names_in(data)
    flags = {"embeddings": "theirs.h5", "data": "dev_data", "detector": "knn,pca", "quiet": True}
    folders = []
    for _ in range(2):
        write(Path("theirs.h5"), rng.normal(size=(len(names), 5)), names)
        folders.append(run(**flags).folder)
        (folders[-1] / "leaderboard.csv").unlink()

    assert folders[0] != folders[1]


@pytest.mark.parametrize("name", ["[/red]x.h5", "[bold]a.h5"])
def test_a_name_that_could_be_markup_is_a_name(data, rng, name, capsys):
    names = names_in(data)
    write(Path("x.h5"), rng.normal(size=(len(names), 5)), names)
    Path(name).parent.mkdir(exist_ok=True, parents=True)
    Path("x.h5").rename(name)

    run(embeddings=name, data="dev_data", detector="knn,pca")

    assert "matched 32" in capsys.readouterr().err
