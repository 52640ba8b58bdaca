"""A model is written whole or not at all, and its versions are kept."""

import errno
import json
from pathlib import Path

import pytest
from machine_halls import hall, hum, learned, write

import ground.files
from pipeline.checking import load_model
from pipeline.model import read_model


def versions(model: Path) -> set[str]:
    return {path.name for path in (model / "files").iterdir()}


def is_usable(model: Path, tmp_path: Path) -> bool:
    clip = write(tmp_path / "probe.wav", hum(99))
    return load_model(model).check(clip, machine="press7").rows[0].verdict == "normal"


def full_disk_after(monkeypatch, n_syncs: int) -> list[int]:
    """Let the disk be full at one of the moments when a file is made permanent."""
    done = [0]
    sync = ground.files.sync

    def sync_or_fail(path: Path) -> None:
        done[0] += 1
        if done[0] > n_syncs:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(path)

    monkeypatch.setattr(ground.files, "sync", sync_or_fail)
    monkeypatch.setattr("pipeline.model_writing.sync", sync_or_fail)
    return done


@pytest.fixture
def one_press(tmp_path):
    recordings = hall(tmp_path / "recordings", ("press7",), n=12)
    return recordings, learned(tmp_path, recordings)


def test_a_full_disk_leaves_the_earlier_model(one_press, tmp_path, monkeypatch):
    recordings, model = one_press
    before = (model / "model.json").read_bytes()
    card = (model / "card.md").read_bytes()
    with monkeypatch.context() as patch:
        n_steps = full_disk_after(patch, 10**9)
        learned(tmp_path, recordings)
    first = read_model(model)
    before, card = (model / "model.json").read_bytes(), (model / "card.md").read_bytes()

    n_refused = 0
    for n_syncs in range(n_steps[0]):
        with monkeypatch.context() as patch:
            full_disk_after(patch, n_syncs)
            try:
                learned(tmp_path, recordings)
            except OSError:
                n_refused += 1
        if (model / "model.json").read_bytes() != before:
            break  # from here on the new model is in place
        assert (model / "card.md").read_bytes() == card
        assert read_model(model).facts["version"] == first.facts["version"]
        assert not list(model.rglob("*.tmp"))
        named = {first.facts["version"], *(p.stem for p in (model / "history").iterdir())}
        assert versions(model) == named

    assert n_refused >= 5
    assert is_usable(model, tmp_path)


def test_history_keeps_earlier_versions_and_their_files(one_press, tmp_path):
    recordings, model = one_press
    first = read_model(model).facts["version"]

    learned(tmp_path, recordings)

    assert [path.stem for path in (model / "history").iterdir()] == [first]
    assert versions(model) == {first, read_model(model).facts["version"]}


def test_files_that_nothing_names_are_removed(one_press, tmp_path):
    recordings, model = one_press
    (model / "files" / "of_a_killed_run").mkdir()

    learned(tmp_path, recordings)

    assert "of_a_killed_run" not in versions(model)


def test_files_stay_where_the_history_cannot_be_read(one_press, tmp_path):
    recordings, model = one_press
    (model / "history").mkdir()
    (model / "history" / "damaged.json").write_text("{")
    (model / "files" / "perhaps_named").mkdir()

    learned(tmp_path, recordings)

    assert "perhaps_named" in versions(model)


def test_model_json_names_the_hash_of_every_file(one_press):
    _, model = one_press
    named = json.loads((model / "model.json").read_text())["files"]

    assert set(named) == {
        path.relative_to(model).as_posix()
        for path in (model / "files").rglob("*.*")
        if path.is_file()
    }
    assert {ground.files.sha256_of(model / name) for name in named} == set(named.values())
