"""Decode a recording by libsndfile, or by PyAV where libsndfile does not know the format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, BinaryIO

import numpy as np
import soundfile

from embed.recordings.dataset import ClipError
from embed.recordings.formats import PYAV_FORMATS, why_unreadable
from embed.recordings.preprocessing import Waveform
from embed.recordings.sound import Sound
from embed.recordings.streams import wav_stream
from embed.recordings.wav import (
    bytes_at,
    find_data,
    find_pcm16,
    is_followed_by_chunk,
    is_streamed,
    is_wav,
    length_of,
)

SAMPLES_PER_BLOCK = 2**20
UNKNOWN_LENGTH = 2**62  # libsndfile's figure for a FLAC whose writer could not seek back
LONGEST_OGG_PAGE = 65_307

DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,aac,ac3,eac3,amr,amrnb,amrwb,asf,matroska,webm,aiff,au,caf,w64,"
    "avi,mp3,wv,tta,ape,wav,flac"
)
"""What ffmpeg may take a file for; playlists, which name other files and addresses, are not."""

TELLS_LENGTH = ("mov", "aiff", "au", "wv", "tta", "ape", "asf", "matroska")
"""The first names of the demuxers whose files tell their length in the header."""

LACKING_S = 0.25  # lossy formats tell their length with what the encoder added


@contextmanager
def opened(file: BinaryIO, name: str) -> Iterator[Sound]:
    """Open a recording; the ending of its name decides which library decodes it.

    The file can be sought in. Whatever is wrong with it, then or while the blocks are read, is a
    ClipError.
    """
    if name.lower().endswith(PYAV_FORMATS):
        with _opened_by_pyav(file, name) as sound:
            yield sound
        return
    head = bytes_at(file, 0, 12)
    if _is_wav_of_size_0(file, head):
        file.seek(0)
        yield wav_stream(file)
        return
    try:
        _check_header(file, head)
        if plain := find_pcm16(file):
            n_frames = max(1, SAMPLES_PER_BLOCK // plain.n_channels)
            blocks = plain.blocks(file, n_frames)
            yield Sound(plain.sample_rate, plain.n_channels, plain.n_frames, blocks)
            return
        file.seek(0)
        with soundfile.SoundFile(file) as sound_file:
            if sound_file.frames > UNKNOWN_LENGTH:
                raise ClipError(
                    "its header does not tell how long it is; write it anew, as "
                    "`ffmpeg -i OLD NEW` does"
                )
            yield Sound(
                sound_file.samplerate,
                sound_file.channels,
                sound_file.frames,
                _blocks(sound_file),
                has_float_samples=sound_file.subtype in ("FLOAT", "DOUBLE"),
            )
    except soundfile.LibsndfileError as error:
        raise ClipError(_not_a_recording(head, error.error_string)) from error


def _blocks(file: soundfile.SoundFile) -> Iterator[Waveform]:
    n_frames = max(1, SAMPLES_PER_BLOCK // file.channels)
    try:
        while len(block := file.read(n_frames, dtype="float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        raise ClipError(f"damaged: {error.error_string.rstrip('.')}") from error


def _is_wav_of_size_0(file: BinaryIO, head: bytes) -> bool:
    """Tell a streamed wav that libsndfile would read as empty."""
    if not is_wav(head):
        return False
    begin, size = find_data(file)
    n_there = length_of(file) - begin
    return bool(begin and not size and n_there) and not is_followed_by_chunk(file, begin, n_there)


def _check_header(file: BinaryIO, head: bytes) -> None:
    """Refuse truncated files that libsndfile reads without a word."""
    if is_wav(head):
        begin, size = find_data(file)
        n_there = length_of(file) - begin if begin else 0
        if not n_there:
            raise ClipError("holds no samples, only a header")
        if n_there < size and not is_streamed(size):
            raise ClipError(
                f"truncated: its header tells of {size} bytes of samples, {n_there} are there"
            )
    if head[:4] == b"OggS" and not _has_last_ogg_page(file):
        raise ClipError("truncated: the Ogg page that ends it is missing or incomplete")


def _has_last_ogg_page(file: BinaryIO) -> bool:
    """Tell whether an Ogg file ends with a whole page that is marked as the last of its stream."""
    tail = bytes_at(file, max(0, length_of(file) - LONGEST_OGG_PAGE), LONGEST_OGG_PAGE)
    begin = tail.rfind(b"OggS")
    page = tail[begin:] if begin >= 0 else b""
    if len(page) < 27:
        return False
    n_segments = page[26]
    return bool(page[5] & 4) and len(page) >= 27 + n_segments + sum(page[27 : 27 + n_segments])


@contextmanager
def _opened_by_pyav(file: BinaryIO, name: str) -> Iterator[Sound]:
    """Open the first sound track by PyAV; ClipError for what holds none."""
    if reason := why_unreadable(name):
        raise ClipError(reason)
    import av

    head = bytes_at(file, 0, 12)
    file.seek(0)
    options = {"format_whitelist": DEMUXERS}
    container: Any
    try:
        with av.open(file, options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise ClipError("holds no sound")
            stream = container.streams.audio[0]
            frames = container.decode(stream)
            first = next(frames, None)  # its rate is right where the header's is half (HE-AAC)
            if first is None:
                raise ClipError("holds no samples, only a header")
            rate, n_channels = first.sample_rate, len(first.layout.channels)
            seconds = _told_seconds(container, stream)
            yield Sound(
                rate,
                n_channels,
                None if seconds is None else round(seconds * rate),
                _blocks_by_pyav(chain([first], frames), rate, n_channels),
                has_float_samples=stream.codec_context.name.startswith("pcm_f"),
                tolerance=round(LACKING_S * rate),
            )
    except av.FFmpegError as error:
        raise ClipError(_not_a_recording(head, error.strerror)) from error


def _told_seconds(container: Any, stream: Any) -> float | None:
    """Read the length from the header, or none where ffmpeg could only estimate it."""
    if container.format.name.split(",")[0] not in TELLS_LENGTH:
        return None
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration) / 1e6
    return None


def _blocks_by_pyav(decoded: Iterator[Any], rate: int, n_channels: int) -> Iterator[Waveform]:
    """Join decoded frames to blocks `(n_frames, n_channels)` of float32.

    What was decoded before damaged data is yielded, then it is a ClipError.
    """
    frames: list[Waveform] = []
    n_waiting = 0
    problem: ClipError | None = None
    try:
        for frame in _frames_by_pyav(decoded, rate, n_channels):
            frames.append(frame)
            n_waiting += len(frame)
            if n_waiting * n_channels >= SAMPLES_PER_BLOCK:
                yield np.concatenate(frames)
                frames, n_waiting = [], 0
    except ClipError as error:
        problem = error
    if frames:
        yield np.concatenate(frames)
    if problem:
        raise problem


def _frames_by_pyav(decoded: Iterator[Any], rate: int, n_channels: int) -> Iterator[Waveform]:
    """Give the blocks of a track `(n_frames, n_channels)`; ClipError if its format changes."""
    import av

    converter = None
    n_before = 0
    try:
        for frame in decoded:
            n_here = len(frame.layout.channels)
            if (frame.sample_rate, n_here) != (rate, n_channels):
                raise ClipError(
                    f"changes from {rate} Hz and {n_channels} channel(s) to {frame.sample_rate} Hz "
                    f"and {n_here} at {n_before / rate:.3f} s"
                )
            converter = converter or av.AudioResampler("fltp", frame.layout, rate)
            frame.pts = None
            n_before += frame.samples
            for each in converter.resample(frame):
                yield np.asarray(each.to_ndarray().T, np.float32)
    except av.FFmpegError as error:
        raise ClipError(f"damaged after {n_before / rate:.3f} s: {error.strerror}") from error


def _not_a_recording(head: bytes, reason: str | None) -> str:
    why = (reason or "unknown error").rstrip(".")
    return f"not a readable recording: {why} (it begins with {head!r})"
