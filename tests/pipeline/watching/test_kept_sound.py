"""Sounds of alarms are kept, up to a limit, and a disk that is full stops the keeping only."""

import errno
import os

import numpy as np
import pytest
import soundfile

from pipeline.watching import kept_sound
from pipeline.watching.kept_sound import AlarmsFolder, SoundRing

RATE = 1000


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    return samples.astype(np.float32)


@pytest.fixture
def said():
    return []


@pytest.fixture
def folder(tmp_path, said):
    return AlarmsFolder(tmp_path / "alarms", 10**6, said.append, after_s=2.0)


def test_the_seconds_before_are_the_last_ones_that_were_heard():
    ring = SoundRing(RATE, before_s=3.0)
    windows = [noise(1.0, seed) for seed in range(5)]
    for window in windows:
        ring.add(window)

    kept = ring.sound() / kept_sound.FULL_SCALE

    np.testing.assert_allclose(kept, np.concatenate(windows[2:]), atol=1e-4)


def test_a_window_that_is_longer_than_the_ring_is_kept_whole():
    ring = SoundRing(RATE, before_s=1.0)
    ring.add(noise(5.0))

    assert len(ring.sound()) == 5 * RATE


def test_the_seconds_after_are_added_until_there_are_enough(folder):
    ring = SoundRing(RATE)
    ring.add(noise(1.0))
    name = folder.keep_sound("one", ring.sound(), RATE)

    for seed in range(4):
        folder.add_after(name, ring.add(noise(1.0, seed)))

    sound, rate = soundfile.read(folder.path / name)
    assert (len(sound), rate) == (3 * RATE, RATE)


def test_the_oldest_make_room_for_the_newest(folder):
    folder.most_bytes = 5000
    for i in range(4):
        name = folder.keep_sound(str(i), kept_sound.as_16_bits(noise(1.0, i)), RATE)
        os.utime(folder.path / name, (i, i))

    assert sorted(path.name for path in folder.path.iterdir()) == ["2.flac", "3.flac"]
    assert folder.keep_sound("long", kept_sound.as_16_bits(noise(9.0)), RATE) == ""


def test_nothing_is_kept_where_nothing_may_be(folder):
    folder.most_bytes = 0

    assert folder.keep_picture("one", b"png") == ""
    assert not folder.path.exists()


def test_a_full_disk_is_said_once_and_stops_nothing(folder, said, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(kept_sound, "write_whole", full)
    kept = [folder.keep_picture(str(i), b"png") for i in range(3)]
    monkeypatch.undo()

    assert kept == ["", "", ""]
    assert len(said) == 1
    assert "the disk is full" in said[0]
    assert folder.keep_picture("4", b"png") == "4.png"
