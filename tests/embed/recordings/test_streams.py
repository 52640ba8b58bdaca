"""Streams of samples: read as they come, checked where they end."""

import io
import struct

import numpy as np
import pytest
import soundfile
from sounds import RATE, noise

from embed.recordings.dataset import ClipError
from embed.recordings.streams import ENCODINGS, RawFormat, raw_stream, wav_stream

SUBTYPES = {
    "u8": "PCM_U8",
    "s16le": "PCM_16",
    "s24le": "PCM_24",
    "s32le": "PCM_32",
    "f32le": "FLOAT",
    "f64le": "DOUBLE",
}


class Pipe(io.RawIOBase):
    """A stream that cannot seek and gives a few bytes at a time."""

    def __init__(self, content: bytes, at_once: int = 777) -> None:
        self._content, self._at_once = io.BytesIO(content), at_once

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self._content.read(min(len(buffer), self._at_once))
        buffer[: len(part)] = part
        return len(part)


def wav_of(samples: np.ndarray, subtype: str = "PCM_16", form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype, format=form)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES.values())
@pytest.mark.parametrize("at_once", [1, 777, 10**6])
def test_a_wav_stream_gives_what_libsndfile_reads(subtype, form, at_once):
    content = wav_of(noise(4_000, 3), subtype, form)
    sound = wav_stream(Pipe(content, at_once))

    expected, _ = soundfile.read(io.BytesIO(content), dtype="float32")
    assert (sound.sample_rate, sound.n_channels) == (RATE, 3)
    np.testing.assert_array_equal(np.concatenate([*sound.blocks]), expected)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000])
def test_a_wav_stream_of_unknown_size_goes_on_to_its_end(size):
    content = bytearray(wav_of(noise(1_000)))
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)

    assert sum(map(len, wav_stream(Pipe(bytes(content))).blocks)) == 1_000


def test_chunks_after_the_samples_are_no_samples():
    content = wav_of(noise(1_000)) + b"LIST" + struct.pack("<I", 4) + b"INFO"

    assert sum(map(len, wav_stream(Pipe(content)).blocks)) == 1_000


@pytest.mark.parametrize(("encoding", "subtype"), SUBTYPES.items())
def test_raw_samples_are_read_by_their_format(encoding, subtype):
    samples = noise(500, 2)
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype, "LITTLE", format="RAW")
    sound = raw_stream(Pipe(file.getvalue()), RawFormat.parse(f"16000:{encoding}:2"))

    expected, _ = soundfile.read(io.BytesIO(wav_of(samples, subtype)), dtype="float32")
    np.testing.assert_array_equal(np.concatenate([*sound.blocks]), expected)


def test_big_endian_samples_are_read():
    samples = np.array([1, -2, 300], ">i2")
    sound = raw_stream(io.BytesIO(samples.tobytes()), RawFormat.parse("8000:S16_BE:1"))

    assert (next(sound.blocks)[:, 0] * 32768).tolist() == [1, -2, 300]


def test_a_stream_that_ends_in_the_middle_of_a_frame_gives_the_whole_ones_first():
    sound = raw_stream(io.BytesIO(bytes(11)), RawFormat.parse("16000:s16le:2"))

    assert len(next(sound.blocks)) == 2
    with pytest.raises(ClipError, match="ends in the middle of a frame: 3 of 4 bytes"):
        next(sound.blocks)


def test_a_wav_stream_that_ends_too_early_gives_what_came_first():
    sound = wav_stream(Pipe(wav_of(noise(1_000))[:-100], 10**6))

    assert len(next(sound.blocks)) == 950
    with pytest.raises(ClipError, match="tells of 2000 bytes of samples, 100 of them lack"):
        next(sound.blocks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not a wav stream \(it begins with b''\); --raw"),
        (b"fLaC" + bytes(40), "not a wav stream"),
        (wav_of(noise(9))[:30], "only a header"),
        (wav_of(noise(9), "ULAW"), "format 7 with 8 bits.* cannot be read"),
        (b"RIFF\0\0\0\0WAVEdata\0\0\0\0", "only a header, or a damaged one"),
        (b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\x7f", "only a header, or a damaged one"),
    ],
)
def test_what_is_no_wav_stream_is_refused(content, message):
    with pytest.raises(ClipError, match=message):
        wav_stream(Pipe(content))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("16000", "expected RATE:ENCODING:CHANNELS"),
        ("16000:s16le", "expected RATE:ENCODING:CHANNELS"),
        ("0:s16le:1", "expected RATE:ENCODING:CHANNELS"),
        ("16000:s16le:-1", "expected RATE:ENCODING:CHANNELS"),
        ("16000:s17le:1", "unknown encoding 's17le': did you mean 's16le'"),
    ],
)
def test_a_raw_format_that_cannot_be_read_says_how_it_is_written(text, message):
    with pytest.raises(ValueError, match=message):
        RawFormat.parse(text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_frame_has_the_bytes_of_its_encoding(encoding):
    raw = RawFormat.parse(f"16000:{encoding}:3")

    assert raw.decoded(bytes(5 * raw.bytes_per_frame)).shape == (5, 3)
