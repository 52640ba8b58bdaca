"""Wav files: what their header tells and libsndfile does not check, and samples of 16 bits."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

STREAMED = range(0x7FFFF000, 2**32)
"""Writers that cannot seek back leave such a size of the samples, or 0."""

MOST_CHUNKS = 10_000
"""So many are searched for the samples."""

MOST_CHANNELS = 64
SCALE = np.float32(2**-15)  # a power of two, so that products are exact


def is_wav(head: bytes) -> bool:
    """Tell a wav file, its 64-bit forms included, from its first 12 bytes."""
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def is_streamed(size: int) -> bool:
    """Tell whether this size of the samples says that the writer did not know it."""
    return size == 0 or size in STREAMED


def find_data(file: BinaryIO) -> tuple[int, int]:
    """Find where the samples begin and how many bytes the header tells of; 0, 0 if nowhere."""
    size_64 = 0
    for name, begin, size in _chunks(file):
        if name == b"ds64":
            size_64 = int.from_bytes(bytes_at(file, begin + 8, 8), "little")
        if name == b"data":
            return begin, (size_64 or size if size == 0xFFFFFFFF else size)
    return 0, 0


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, where its content begins, and how many bytes it tells of."""
    at = 12
    for _ in range(MOST_CHUNKS):
        head = bytes_at(file, at, 8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, size
        at += 8 + size + size % 2


@dataclass(frozen=True)
class PCM16:
    """Where a wav file has its samples, and how, if they are plain integers of 16 bits."""

    sample_rate: int
    n_channels: int
    begin: int
    n_frames: int

    def blocks(self, file: BinaryIO, n_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield the samples, `(n_frames, n_channels)` each but the last, as libsndfile does."""
        frame = 2 * self.n_channels
        for start in range(0, self.n_frames, n_frames):
            n_bytes = frame * min(n_frames, self.n_frames - start)
            content = bytes_at(file, self.begin + frame * start, n_bytes)
            integers = np.frombuffer(content[: len(content) // frame * frame], "<i2")
            yield np.multiply(integers, SCALE, dtype=np.float32).reshape(-1, self.n_channels)
            if len(content) < n_bytes:  # somebody cuts the file meanwhile
                return


def find_pcm16(file: BinaryIO) -> PCM16 | None:
    """Describe a wav file of the plainest kind, whole and consistent; None for any other.

    A decoder has to look at the others: 64-bit and big-endian forms, other formats and depths, the
    extensible format, headers that contradict themselves, streams of unknown length.
    """
    if bytes_at(file, 0, 4) != b"RIFF":
        return None
    layout = b""
    for name, begin, size in _chunks(file):
        if name == b"fmt ":
            layout = bytes_at(file, begin, 16) if size in (16, 18) and not layout else b"?"
        if name == b"data":
            break
    else:
        return None
    if len(layout) != 16:
        return None
    kind, n_channels, rate, bytes_per_s, frame, bits = struct.unpack("<HHIIHH", layout)
    is_plain = kind == 1 and bits == 16 and 1 <= n_channels <= MOST_CHANNELS
    is_consistent = 0 < rate < 2**31 and frame == 2 * n_channels and bytes_per_s == rate * frame
    n_there = length_of(file) - begin
    if not (is_plain and is_consistent) or is_streamed(size) or size > n_there or size % frame:
        return None
    return PCM16(rate, n_channels, begin, size // frame)


def is_followed_by_chunk(file: BinaryIO, begin: int, n_bytes: int) -> bool:
    """Tell whether another chunk fills the last `n_bytes`, so that they are no samples."""
    size = 8 + int.from_bytes(bytes_at(file, begin + 4, 4), "little")
    return size in (n_bytes, n_bytes - 1)


def bytes_at(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    """Read so many bytes from a position, fewer at the end of the file."""
    file.seek(position)
    return file.read(n_bytes)


def length_of(file: BinaryIO) -> int:
    """Return the length of a file in bytes."""
    return file.seek(0, 2)
