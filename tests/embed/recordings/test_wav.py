"""What the header of a wav file tells is checked against the file."""

import os
import struct

import numpy as np
import pytest
import soundfile
from sounds import RATE, load, noise, rewrite_data_size

from embed.recordings.dataset import ClipError
from embed.recordings.decoding import SAMPLES_PER_BLOCK, opened
from embed.recordings.sound import channel_of
from embed.recordings.wav import find_pcm16


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


def integers(n_frames, n_channels):
    """Draw samples of 16 bits with both extremes among them."""
    drawn = np.random.default_rng(0).integers(-(2**15), 2**15, (n_frames, n_channels), np.int16)
    drawn[:2] = [[-(2**15)], [2**15 - 1]]
    return drawn


@pytest.mark.parametrize(("n_frames", "n_channels"), [(1, 1), (16_001, 1), (999, 3)])
@pytest.mark.parametrize("n_at_once", [7, SAMPLES_PER_BLOCK])
def test_samples_of_16_bits_are_those_of_libsndfile(n_frames, n_channels, n_at_once, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, integers(max(n_frames, 2), n_channels)[:n_frames], RATE, "PCM_16")
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)

    with path.open("rb") as file:
        plain = find_pcm16(file)
        blocks = list(plain.blocks(file, n_at_once))

    assert (plain.sample_rate, plain.n_frames) == (RATE, n_frames)
    np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize(
    ("options", "at", "value"),
    [
        ({"subtype": "PCM_24"}, 0, b""),
        ({"subtype": "PCM_U8"}, 0, b""),
        ({"subtype": "FLOAT"}, 0, b""),
        ({"subtype": "IMA_ADPCM"}, 0, b""),
        ({"format": "WAVEX"}, 0, b""),
        ({"format": "RF64"}, 0, b""),
        ({"endian": "BIG"}, 0, b""),
        ({}, 22, b"\0\0"),  # channels
        ({}, 22, b"\2\0"),  # bytes of a frame contradict it
        ({}, 24, b"\0\0\0\0"),  # rate
        ({}, 12, b"fact"),  # no format before the samples
        ({}, 40, struct.pack("<I", 201)),  # half a sample
        ({}, 40, struct.pack("<I", 2000)),  # more than there is
        ({}, 40, b"\xff\xff\xff\xff"),  # a stream
    ],
)
def test_what_is_not_plain_samples_of_16_bits_is_left_to_libsndfile(options, at, value, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, integers(101, 1), RATE, **{"subtype": "PCM_16", **options})
    content = bytearray(path.read_bytes())
    content[at : at + len(value)] = value
    path.write_bytes(content)

    with path.open("rb") as file:
        assert find_pcm16(file) is None


def test_a_plain_wav_that_is_cut_while_it_is_read_is_truncated(wav, monkeypatch):
    whole = find_pcm16

    def described_before_the_cut(file):
        plain = whole(file)
        os.truncate(file.name, 1001)
        return plain

    monkeypatch.setattr("embed.recordings.decoding.find_pcm16", described_before_the_cut)

    with (
        wav.open("rb") as file,
        opened(file, wav.name) as sound,
        pytest.raises(ClipError, match="tells of 16000 samples, 478 can be decoded"),
    ):
        list(channel_of(sound, 0))
