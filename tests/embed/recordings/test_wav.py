"""What the header of a wav file tells is checked against the file."""

import os
import struct

import numpy as np
import pytest
import soundfile
from sounds import RATE, load, noise, rewrite_data_size

from embed.recordings.dataset import ClipError


def test_a_truncated_wav_is_refused(wav):
    os.truncate(wav, 20_000)

    with pytest.raises(ClipError, match=r"truncated: its header tells of 32000 bytes .* 19956 are"):
        load(wav)


def test_a_truncated_wav_with_a_chunk_before_its_samples_is_refused(wav):
    content = wav.read_bytes()
    at = content.index(b"data")
    note = b"LIST" + struct.pack("<I", 5) + b"data!\0"  # odd length, padded, a trap in its text
    wav.write_bytes(content[:at] + note + content[at:-1])

    with pytest.raises(ClipError, match="tells of 32000 bytes of samples, 31999 are there"):
        load(wav)


def test_a_truncated_rf64_is_refused(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(), RATE, format="RF64")
    whole = load(path).waveform
    os.truncate(path, 20_000)

    assert len(whole) == RATE
    with pytest.raises(ClipError, match="truncated: its header tells of 32000 bytes"):
        load(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0, 0x7FFFFFFF, 0xFFFFFFFF - 36])
def test_a_streamed_wav_without_a_size_is_read_whole(size, wav):
    whole = load(wav).waveform
    rewrite_data_size(wav, size)

    np.testing.assert_array_equal(load(wav).waveform, whole)


@pytest.mark.parametrize("n_bytes", [12, 36, 44])
def test_a_header_without_samples_is_refused(n_bytes, wav):
    os.truncate(wav, n_bytes)

    with pytest.raises(ClipError, match=r"no samples, only a header|not a readable recording"):
        load(wav)


def test_a_recording_of_no_length_is_refused(tmp_path):
    soundfile.write(tmp_path / "clip.wav", np.zeros(0), RATE)

    with pytest.raises(ClipError, match="holds no samples, only a header"):
        load(tmp_path / "clip.wav")


def test_a_chunk_after_no_samples_is_not_taken_for_samples(wav):
    content = wav.read_bytes()
    at = content.index(b"data")
    wav.write_bytes(content[:at] + b"data\0\0\0\0" + b"LIST" + struct.pack("<I", 4) + b"INFO")

    with pytest.raises(ClipError, match="holds no samples, only a header"):
        load(wav)
