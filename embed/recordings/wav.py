"""What the header of a wav file tells, and libsndfile does not check."""

from __future__ import annotations

from typing import BinaryIO

STREAMED = range(0x7FFFF000, 2**32)
"""Writers that cannot seek back leave such a size of the samples, or 0."""

MOST_CHUNKS = 10_000
"""So many are searched for the samples."""


def is_wav(head: bytes) -> bool:
    """Tell a wav file, its 64-bit forms included, from its first 12 bytes."""
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"


def is_streamed(size: int) -> bool:
    """Tell whether this size of the samples says that the writer did not know it."""
    return size == 0 or size in STREAMED


def find_data(file: BinaryIO) -> tuple[int, int]:
    """Find where the samples begin and how many bytes the header tells of; 0, 0 if nowhere."""
    at, size_64 = 12, 0
    for _ in range(MOST_CHUNKS):
        head = bytes_at(file, at, 8)
        if len(head) < 8:
            break
        name, size = head[:4], int.from_bytes(head[4:], "little")
        at += 8
        if name == b"ds64":
            size_64 = int.from_bytes(bytes_at(file, at + 8, 8), "little")
        if name == b"data":
            return at, (size_64 or size if size == 0xFFFFFFFF else size)
        at += size + size % 2
    return 0, 0


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
