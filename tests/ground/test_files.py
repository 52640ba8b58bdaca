"""A file is there whole under its name, or what was there before is there still."""

import hashlib
import os
import time

import pytest

from ground.files import (
    STALE_S,
    remove_stale,
    sha256_of,
    synced_at_once,
    whole_file,
    write_whole,
)


@pytest.mark.parametrize("data", ["grün\n", b"\x00\xff", b""])
def test_what_is_written_is_read_back_and_hashed(data, tmp_path):
    path = tmp_path / "file"

    write_whole(path, data)

    raw = data.encode() if isinstance(data, str) else data
    assert path.read_bytes() == raw
    assert sha256_of(path) == hashlib.sha256(raw).hexdigest()
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_failure_leaves_the_old_content_and_no_leftover(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()

    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_an_error_and_leaves_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")

    assert path.read_text() == "old"


def test_leftovers_are_removed_once_they_are_old(tmp_path):
    old, young, other = (tmp_path / n for n in (".a.h5.1.tmp", ".a.h5.2.tmp", ".b.h5.1.tmp"))
    for path in (old, young, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (time.time() - 2 * STALE_S,) * 2)

    remove_stale(tmp_path, "a.h5")

    assert not old.exists()
    assert young.exists()
    assert other.exists()


@pytest.mark.parametrize(("n_files", "expected"), [(3, 6), (1000, 0)])
def test_many_files_are_waited_for_at_once(n_files, expected, tmp_path, monkeypatch):
    waited, at_once = [], []
    monkeypatch.setattr("os.fsync", waited.append)
    monkeypatch.setattr("os.sync", lambda: at_once.append(len(list(tmp_path.iterdir()))))

    with synced_at_once(n_files):
        for i in range(3):
            write_whole(tmp_path / str(i), "x")

    assert len(waited) == expected
    assert at_once == [3] * (n_files > 3)
