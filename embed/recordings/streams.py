"""Recordings that come as a stream, from a microphone through standard input: wav or raw PCM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Waveform
from embed.recordings.sound import Sound
from embed.recordings.wav import is_streamed, is_wav
from ground.text import nearest_hint

ENCODINGS = {
    "u8": (1, "u1"),
    "s16le": (2, "<i2"),
    "s16be": (2, ">i2"),
    "s24le": (3, ""),
    "s32le": (4, "<i4"),
    "s32be": (4, ">i4"),
    "f32le": (4, "<f4"),
    "f64le": (8, "<f8"),
}
"""Encodings of one sample, by ffmpeg's names: bytes, and numpy's type where there is one."""

BYTES_PER_READ = 2**16
LONGEST_HEADER = 2**20
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


@dataclass(frozen=True)
class RawFormat:
    """How the samples of a stream without a header are to be read."""

    sample_rate: int
    """In Hz."""
    encoding: str
    """A key of `ENCODINGS`."""
    n_channels: int

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """Read `16000:s16le:1`: sample rate, encoding, channels; ValueError for anything else."""
        rate, _, rest = text.partition(":")
        encoding, _, channels = rest.partition(":")
        encoding = encoding.lower().replace("_", "")
        if not (rate.isdecimal() and channels.isdecimal() and int(rate) and int(channels)):
            raise ValueError(
                f"{text!r} is no raw format; expected RATE:ENCODING:CHANNELS as in 16000:s16le:1"
            )
        if encoding not in ENCODINGS:
            raise ValueError(
                f"{text!r}: unknown encoding {encoding!r}: {nearest_hint(encoding, ENCODINGS)}"
            )
        return cls(int(rate), encoding, int(channels))

    @property
    def bytes_per_frame(self) -> int:
        return ENCODINGS[self.encoding][0] * self.n_channels

    def decoded(self, content: bytes) -> Waveform:
        """Decode whole frames to float32 `(n_frames, n_channels)`, integers to [-1, 1)."""
        n_bytes, dtype = ENCODINGS[self.encoding]
        if dtype:
            samples: NDArray[Any] = np.frombuffer(content, dtype)
        else:  # 24 bits: the upper three bytes of 32
            wide = np.zeros((len(content) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
            samples, n_bytes = wide.view("<i4")[:, 0], 4
        frames = samples.reshape(-1, self.n_channels)
        if frames.dtype.kind == "u":
            frames = (frames.astype(np.float32) - 128) / 128
        elif frames.dtype.kind == "i":
            frames = frames / 2.0 ** (8 * n_bytes - 1)
        return np.ascontiguousarray(frames, dtype=np.float32)


def raw_stream(file: BinaryIO, raw: RawFormat) -> Sound:
    """Read a stream of samples without a header, each block as soon as it has come.

    A stream that ends in the middle of a frame is a ClipError after the frames before it.
    """
    return _sound(file, raw, None)


def wav_stream(file: BinaryIO) -> Sound:
    """Read a wav stream, which need not be able to seek; a ClipError for anything else.

    A size of 0, or the largest, means that the samples go on to the end of the stream.
    """
    head = _exactly(file, 12)
    if not is_wav(head):
        raise ClipError(
            f"not a wav stream (it begins with {head!r}); --raw RATE:ENCODING:CHANNELS reads "
            "samples without a header"
        )
    raw: RawFormat | None = None
    n_read = 12
    while True:
        chunk = _exactly(file, 8)
        name, size = chunk[:4], int.from_bytes(chunk[4:], "little")
        if name == b"data" and raw is not None:
            break
        n_read += 8 + size + size % 2
        if len(chunk) < 8 or name == b"data" or n_read > LONGEST_HEADER:
            raise ClipError("holds no samples, only a header, or a damaged one")
        content = _exactly(file, size + size % 2)
        if len(content) < size:
            continue  # the stream is over: the next chunk lacks
        if name == b"fmt ":
            raw = _raw_format(content)
    return _sound(file, raw, None if is_streamed(size) else size)


def _raw_format(fmt: bytes) -> RawFormat:
    """Read the chunk `fmt ` of a wav header."""
    kind, n_channels, rate, n_bits = (
        int.from_bytes(fmt[a:b], "little") for a, b in ((0, 2), (2, 4), (4, 8), (14, 16))
    )
    if kind == _EXTENSIBLE:
        kind = int.from_bytes(fmt[24:26], "little")
    names = {(_PCM, 8): "u8", (_FLOAT, 32): "f32le", (_FLOAT, 64): "f64le"}
    encoding = names.get((kind, n_bits), f"s{n_bits}le" if kind == _PCM else "")
    if encoding not in ENCODINGS or not rate or not n_channels:
        raise ClipError(
            f"a wav stream of format {kind} with {n_bits} bits, {n_channels} channel(s) and "
            f"{rate} Hz cannot be read; 8 to 32 bit PCM and floats can"
        )
    return RawFormat(rate, encoding, n_channels)


def _sound(file: BinaryIO, raw: RawFormat, n_bytes: int | None) -> Sound:
    is_float = raw.encoding.startswith("f")
    blocks = _blocks(file, raw, n_bytes)
    return Sound(raw.sample_rate, raw.n_channels, None, blocks, has_float_samples=is_float)


def _blocks(file: BinaryIO, raw: RawFormat, n_bytes: int | None) -> Iterator[Waveform]:
    """Decode whole frames as they come, at most `n_bytes` where the header tells of so many."""
    read = getattr(file, "read1", file.read)  # read1 does not wait until all is there
    waiting = b""
    n_left = n_bytes
    while n_left is None or n_left > 0:
        content = read(BYTES_PER_READ if n_left is None else min(BYTES_PER_READ, n_left))
        if not content:
            break
        n_left = None if n_left is None else n_left - len(content)
        waiting += content
        n_whole = len(waiting) // raw.bytes_per_frame * raw.bytes_per_frame
        if n_whole:
            yield raw.decoded(waiting[:n_whole])
            waiting = waiting[n_whole:]
    if n_left:
        raise ClipError(
            f"truncated: its header tells of {n_bytes} bytes of samples, {n_left} of them lack"
        )
    if waiting:
        raise ClipError(
            f"the stream ends in the middle of a frame: {len(waiting)} of "
            f"{raw.bytes_per_frame} bytes"
        )


def _exactly(file: BinaryIO, n_bytes: int) -> bytes:
    """Read so many bytes, fewer at the end of the stream."""
    parts = []
    while n_bytes and (part := file.read(n_bytes)):
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)
