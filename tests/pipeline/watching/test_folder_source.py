"""A folder hands over each file once, when it is finished, with events and without."""

import os
import threading
import time
from pathlib import Path

import pytest

from embed.recordings.new_clips import names_of
from pipeline.watching import folder_source
from pipeline.watching.folder_source import FolderSource
from pipeline.watching.source import NewFile, Running
from pipeline.watching.state import Outcome, WatchState, connect


class Watched:
    """A source that runs in a thread, and what it handed over."""

    def __init__(self, folder: Path, state_file: Path, **options):
        names = names_of([("press7", ""), ("press8", "")])
        options = {"settle_s": 0.1, **options}
        self.source = FolderSource("hall", folder, names, state_file, **options)
        self.state = WatchState(connect(state_file))
        self.items, self.stop = [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.until(lambda: Running("hall") in self.items)

    def run(self):
        self.source.run(self.items.append, self.stop)

    @property
    def files(self):
        return [item for item in self.items if isinstance(item, NewFile)]

    @property
    def paths(self):
        return [file.version.path for file in self.files]

    def until(self, condition, seconds=10.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.items
            time.sleep(0.02)

    def judge(self, file):
        self.state.write(Outcome(file.version), [])
        self.source.finished(file.version)

    def close(self):
        self.stop.set()
        self.thread.join(10)
        self.state.close()


@pytest.fixture(params=["events", "polling"])
def watched(request, tmp_path, monkeypatch):
    if request.param == "polling":
        monkeypatch.setattr("watchfiles.watch", lambda *_, **__: iter(()))
        monkeypatch.setattr(folder_source, "LOOK_S", 0.1)
        monkeypatch.setattr(folder_source, "TICK_S", 0.05)
    (tmp_path / "hall" / "press7").mkdir(parents=True)
    (tmp_path / "hall" / "old.wav").write_bytes(b"old")
    watched = Watched(tmp_path / "hall", tmp_path / "watch.sqlite")
    yield watched
    watched.close()


def test_files_are_handed_over_once_with_their_machine(watched):
    hall = watched.source.folder
    watched.until(lambda: "old.wav" in watched.paths)
    (hall / "press7" / "new.wav").write_bytes(b"new")
    (hall / "press7" / ".new.wav.part").write_bytes(b"new")
    (hall / "notes.txt").write_bytes(b"new")
    (hall / "press8").mkdir()
    (hall / "press8" / "newer.wav").write_bytes(b"newer")

    watched.until(lambda: len(watched.files) == 3)
    for file in watched.files:
        watched.judge(file)
    os.utime(hall / "notes.txt")
    time.sleep(0.7)

    assert {file.version.path: file.machine for file in watched.files} == {
        "old.wav": ("", ""),
        "press7/new.wav": ("press7", ""),
        "press8/newer.wav": ("press8", ""),
    }


def test_a_file_that_grows_is_handed_over_when_it_is_whole(watched):
    path = watched.source.folder / "press7" / "long.wav"
    watched.source.settle_s = 1.0
    with path.open("wb", buffering=0) as file:
        for _ in range(6):
            file.write(b"x" * 100)
            time.sleep(0.2)
    assert "press7/long.wav" not in watched.paths

    watched.until(lambda: "press7/long.wav" in watched.paths)

    (file,) = [file for file in watched.files if file.version.path == "press7/long.wav"]
    assert file.version.size == 600


def test_a_file_that_is_written_again_is_handed_over_again(tmp_path):
    (tmp_path / "hall").mkdir()
    (tmp_path / "hall" / "a.wav").write_bytes(b"one")
    watched = Watched(tmp_path / "hall", tmp_path / "watch.sqlite")
    watched.until(lambda: len(watched.files) == 1)
    watched.judge(watched.files[0])

    (tmp_path / "hall" / "a.wav").write_bytes(b"two!")
    watched.until(lambda: len(watched.files) == 2)

    assert [file.version.size for file in watched.files] == [3, 4]
    watched.close()


def test_once_ends_when_all_is_handed_over_in_the_order_of_time(tmp_path):
    (tmp_path / "hall").mkdir()
    for name, when in (("b.wav", 1), ("a.wav", 2), ("c.wav", 0)):
        (tmp_path / "hall" / name).write_bytes(b"x")
        os.utime(tmp_path / "hall" / name, (when, when))
    source = FolderSource(
        "hall", tmp_path / "hall", {}, tmp_path / "watch.sqlite", settle_s=0.1, once=True
    )
    paths = []

    def emit(item):
        if isinstance(item, NewFile):
            paths.append(item.version.path)
            with connect(tmp_path / "watch.sqlite") as connection:
                WatchState(connection).write(Outcome(item.version), [])
            connection.close()
            source.finished(item.version)

    source.run(emit, threading.Event())

    assert paths == ["c.wav", "b.wav", "a.wav"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    source = FolderSource("hall", tmp_path / "gone", {}, tmp_path / "watch.sqlite")

    with pytest.raises(OSError, match="gone"):
        source.run(lambda item: None, threading.Event())
