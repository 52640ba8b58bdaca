"""Portions carry which stores lack a clip; reports tell the tasks what became of it."""

import pytest
from small_stores import open_store

from embed.embedding import Task
from embed.encoders.wave import Wave
from embed.pooling import Pooling
from embed.recordings.preprocessing import Preprocessing
from pipeline.portions import ClipPass, Report, StoreRows


@pytest.fixture
def heard() -> list[tuple[str, ...]]:
    return []


@pytest.fixture
def clip_pass(tmp_path, heard) -> ClipPass:
    """Return a pass over 40 clips, of which the second of two tasks lacks the first three."""
    files = {f"{i}.wav": tmp_path / f"{i}.wav" for i in range(40)}
    for number in range(39):
        (tmp_path / f"{number}.wav").touch()
    lacking = [frozenset(files), frozenset(list(files)[:3])]
    rows = [
        StoreRows.of([open_store(tmp_path, encoder=f"wave{i}")], [keys])
        for i, keys in enumerate(lacking)
    ]
    tasks = [
        Task(
            encoders=[Wave()],
            poolings=[Pooling()],
            write=each.keep,
            on_bad_clip=lambda key, reason: heard.append(("bad", key, reason)),
            on_note=lambda key, note: heard.append(("note", key, note)),
        )
        for each in rows
    ]
    return ClipPass(
        tasks, rows, Preprocessing(), files, lambda key: heard.append(("done", key)), 0, 0
    )


def test_portions_are_small_for_many_workers_and_name_the_stores_that_lack_a_clip(clip_pass):
    portions = list(clip_pass.portions(4))

    assert [len(portion) for portion in portions] == [8] * 5
    assert [clip.lacking for clip in portions[0]] == ["3"] * 3 + ["1"] * 5


def test_a_bad_clip_is_reported_by_the_worker_and_heard_by_its_task(clip_pass, heard):
    (portion, *_) = clip_pass.portions(1)

    errors = clip_pass.follow([clip_pass.worker().encode(portion[:1])])

    assert errors == {}
    assert [kind for kind, *_ in heard] == ["bad", "bad"]
    assert "empty" in heard[0][2]


def report(kind: str, key: str = "", task: int = 0) -> Report:
    return Report(kind, task, key, "why", "node7")


def test_what_is_reported_reaches_the_task(clip_pass, heard):
    errors = clip_pass.follow([[report("done", "1.wav")], [report("note", "2.wav")]])
    failed = clip_pass.follow([[report("failed", task=1), report("done", "3.wav")]])

    assert heard == [("done", "1.wav"), ("note", "2.wav", "why"), ("done", "3.wav")]
    assert errors == {}
    assert str(failed[1]) == "why"
    with pytest.raises(ValueError, match="why"):
        clip_pass.follow([[report("failed", task=0), report("failed", task=1)]])


def test_a_file_that_only_this_machine_sees_is_said_with_the_name_of_the_other(clip_pass, heard):
    with pytest.raises(OSError, match=r"1\.wav is here, and the machine node7 does not see it"):
        clip_pass.follow([[report("not there", "1.wav")]])
    clip_pass.follow([[report("not there", "39.wav")]])

    assert heard == [("bad", "39.wav", "why")]
    with pytest.raises(OSError, match="why"):
        clip_pass.follow([[report("refused")]])
