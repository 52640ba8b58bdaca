"""How one file becomes a waveform, and what is said of the files that do not."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import librosa
import numpy as np
import pytest
import soundfile
from sounds import RATE, load, rewrite_data_size

from embed.recordings.audio import LARGEST_BYTES, LONGEST_S
from embed.recordings.dataset import ClipError


class ChangedMeanwhile(type(Path())):  # type: ignore[misc]
    """A path whose file another program changes once its bytes are being read."""

    def open(self, *args: Any, **kwargs: Any) -> BinaryIO:
        change = self.change

        class File(io.BufferedReader):
            def read(self, *args: Any) -> bytes:
                content = super().read(*args)
                change()
                return content

        return File(io.FileIO(self))

    def change(self) -> None:
        with Path(self).open("ab") as another:
            another.write(b"more")


class ReplacedMeanwhile(ChangedMeanwhile):
    def change(self) -> None:
        content = Path(self).read_bytes()
        other = Path(f"{self}.part")
        other.write_bytes(content)
        other.replace(self)


class RemovedMeanwhile(ChangedMeanwhile):
    def change(self) -> None:
        self.unlink()


@pytest.fixture
def forbidden(wav) -> Iterator[Path]:
    """Give a recording that may not be read, also when the tests run as root."""
    wav.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:
        os.seteuid(65534)
    yield wav
    if as_root:
        os.seteuid(0)


def test_the_real_flac_equals_librosas(shared_data):
    path = shared_data / "golden" / "1272-128104-0000.flac"

    np.testing.assert_array_equal(load(path, 32_000).waveform, librosa.load(path, sr=32_000)[0])


def test_a_recording_tells_which_content_it_was_computed_from(wav):
    os.utime(wav, ns=(0, 123_456_789))
    recording = load(wav)

    content = wav.read_bytes()
    assert recording.size == len(content)
    assert recording.mtime_ns == 123_456_789
    assert recording.sha256 == hashlib.sha256(content).hexdigest()
    assert recording.note == ""


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "clip.wav").touch()

    with pytest.raises(ClipError, match="the file is empty"):
        load(tmp_path / "clip.wav")


@pytest.mark.parametrize("another", [ChangedMeanwhile, ReplacedMeanwhile])
def test_a_file_that_changes_while_it_is_read_is_refused(another, wav):
    with pytest.raises(ClipError, match="changed while it was read"):
        load(another(wav))


def test_a_file_that_is_removed_while_it_is_read_is_refused(wav):
    with pytest.raises(ClipError, match="cannot be read: No such file"):
        load(RemovedMeanwhile(wav))


def test_a_file_that_is_gone_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ClipError, match="cannot be read: No such file or directory"):
        load(tmp_path / "gone.wav")
    with pytest.raises(ClipError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_refused(forbidden):
    with pytest.raises(ClipError, match="cannot be read: Permission denied"):
        load(forbidden)


def test_three_hours_in_one_file_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros(1), RATE)
    n_bytes = 3 * 3600 * RATE * 2
    rewrite_data_size(path, n_bytes)
    os.truncate(path, 44 + n_bytes)  # sparse: takes no space

    with pytest.raises(ClipError, match=r"330 MiB in one file.*--window 10.*\(it is 3\.0 h long\)"):
        load(path)
    assert n_bytes > LARGEST_BYTES


def test_eleven_minutes_are_refused_and_ten_are_not(tmp_path):
    path = tmp_path / "clip.flac"
    soundfile.write(path, np.zeros(11 * 60 * 8_000, np.float32), 8_000)
    with pytest.raises(ClipError, match=r"11 min in one file, at most 10 min .*--window 10 --hop"):
        load(path)

    soundfile.write(path, np.zeros(int(LONGEST_S) * 8_000, np.float32), 8_000)
    assert len(load(path, 8_000).waveform) == LONGEST_S * 8_000


def test_a_stream_of_unknown_length_is_bounded_too(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.zeros(11 * 60 * 4_000, np.float32), 4_000, "PCM_U8")
    rewrite_data_size(path, 0xFFFFFFFF)

    with pytest.raises(ClipError, match=r"11 min in one file"):
        load(path)
