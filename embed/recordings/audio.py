"""One recording from disk becomes one waveform: read, decoded, checked, resampled, prepared.

The order is fixed: decode, choose the channel, resample (soxr HQ, equal to `librosa.load`), trim,
denoise, normalise, lengthen. Silence and constants are valid recordings.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

LONGEST_S = 600.0  # with the next line this bounds the memory of one clip
LARGEST_BYTES = 2**28
FRAMES_PER_READ = 2**20
INT16_SCALED = 8.0  # float samples beyond this were never divided by 32768
TRIM_DB = 40.0
DENOISE_N_FFT, DENOISE_HOP = 1024, 256
UNKNOWN_LENGTH = 2**62  # libsndfile's figure for a FLAC whose writer could not seek back
_STREAMED = 0x7FFFF000  # writers that cannot seek back leave this size, or more, or 0


class ClipError(ValueError):
    """A clip that cannot be used; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to each waveform before the encoder; all of it decides the vectors."""

    normalize: Literal["none", "rms", "peak"] = "none"
    trim: bool = False
    """Cut off the beginning and end that are 40 dB below the loudest frame."""
    denoise: bool = False
    """Subtract each frequency's median magnitude over time."""
    channel: int | Literal["mean"] = 0
    short: Literal["error", "pad", "repeat"] = "error"
    """What to do with a clip that is shorter than the encoder's minimum."""

    def __post_init__(self) -> None:
        _check("normalize", self.normalize, ("none", "rms", "peak"))
        _check("short", self.short, ("error", "pad", "repeat"))
        if self.channel != "mean" and (isinstance(self.channel, str) or self.channel < 0):
            raise ValueError(f"channel is 'mean' or a number from 0 on, found {self.channel!r}")


@dataclass(frozen=True)
class Recording:
    """A waveform `(n_samples,)` and the file it was computed from."""

    waveform: Waveform
    size: int
    mtime_ns: int
    sha256: str
    note: str = ""
    """How the clip was altered to be usable, or nothing."""


def load_recording(
    path: Path, sample_rate: int, min_samples: int, preprocessing: Preprocessing
) -> Recording:
    """Read one file as mono float32 at `sample_rate`; whatever is wrong with it is a ClipError."""
    content, about = _read_once(path)
    samples, own_rate = _decode(content, preprocessing.channel)
    waveform = _resample(samples, own_rate, sample_rate)
    if preprocessing.trim:
        waveform = _trimmed(waveform)
    if preprocessing.denoise:
        waveform = _denoised(waveform)
    waveform = _normalised(waveform, preprocessing.normalize)
    waveform, note = _lengthened(waveform, sample_rate, min_samples, preprocessing.short)
    return Recording(
        waveform=np.ascontiguousarray(waveform, dtype=np.float32),
        size=about.st_size,
        mtime_ns=about.st_mtime_ns,
        sha256=hashlib.sha256(content).hexdigest(),
        note=note,
    )


def _check(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{option} is one of {', '.join(choices)}, found {value!r}")


def _read_once(path: Path) -> tuple[bytes, os.stat_result]:
    """Read all bytes of a file that nobody writes to meanwhile."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if about.st_size > LARGEST_BYTES:
                raise ClipError(
                    f"{about.st_size / 2**20:,.0f} MiB in one file, at most "
                    f"{LARGEST_BYTES // 2**20} MiB are read; cut it into clips of about 10 s"
                    + _length_hint(file)
                )
            content = file.read(about.st_size + 1)
            after = os.fstat(file.fileno())
        replaced = path.stat()
    except OSError as error:
        raise ClipError(f"cannot be read: {error.strerror or error}") from error
    moments = {(s.st_ino, s.st_size, s.st_mtime_ns) for s in (about, after, replaced)}
    if len(moments) > 1 or len(content) != about.st_size:
        raise ClipError("changed while it was read; run again once it is finished")
    if not content:
        raise ClipError("the file is empty")
    return content, about


def _length_hint(file: BinaryIO) -> str:
    try:
        with soundfile.SoundFile(file) as sound:
            return f" (it is {sound.frames / sound.samplerate / 3600:.1f} h long)"
    except soundfile.LibsndfileError:
        return ""


def _decode(content: bytes, channel: int | str) -> tuple[Waveform, int]:
    """Decode one channel or the mean of all, `(n_samples,)`, and the file's sample rate."""
    try:
        with soundfile.SoundFile(io.BytesIO(_with_its_size(content))) as file:
            _check_header(content, file)
            blocks = []
            while len(block := file.read(FRAMES_PER_READ, dtype="float32", always_2d=True)):
                blocks.append(_one_channel(block, channel))
            rate, n_frames, subtype = file.samplerate, file.frames, file.subtype
    except soundfile.LibsndfileError as error:
        raise ClipError(_not_a_recording(content, error)) from error
    if not blocks:
        raise ClipError("holds no samples, only a header")
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    if len(samples) < n_frames:
        raise ClipError(
            f"truncated: its header tells of {n_frames} samples, {len(samples)} can be decoded"
        )
    _check_samples(samples, rate, subtype)
    return samples, rate


def _one_channel(block: Waveform, channel: int | str) -> Waveform:
    if channel == "mean":
        mean: Waveform = np.mean(block.T, axis=0)  # in the order of librosa.to_mono
        return mean
    number = int(channel)
    if number >= block.shape[1]:
        raise ClipError(f"has {block.shape[1]} channel(s), counted from 0; there is no {number}")
    return block[:, number]


def _check_header(content: bytes, file: soundfile.SoundFile) -> None:
    """Refuse what libsndfile reads without a word: too few samples, or too many to hold."""
    n_told, n_there = _wav_data_bytes(content)
    if not n_there and n_told:
        raise ClipError("holds no samples, only a header")
    if n_there < n_told:
        raise ClipError(
            f"truncated: its header tells of {n_told} bytes of samples, {n_there} are there"
        )
    if content[:4] == b"OggS" and not _has_its_last_page(content):
        raise ClipError("truncated: the Ogg page that ends it is missing or incomplete")
    if file.frames > UNKNOWN_LENGTH:
        raise ClipError(
            "its header does not tell how long it is; write it anew, as `ffmpeg -i OLD NEW` does"
        )
    if file.frames > LONGEST_S * file.samplerate:
        raise ClipError(
            f"{file.frames / file.samplerate / 60:.0f} min in one file, at most "
            f"{LONGEST_S / 60:.0f} min are read; cut it into clips of about 10 s"
        )


def _wav_data_bytes(content: bytes) -> tuple[int, int]:
    """Count the bytes of samples that a RIFF header tells of, and those that are there."""
    if not _is_wav(content):
        return 0, 0
    at, size = _wav_data(content)
    if not at:
        return 1, 0  # the header ends before its samples begin
    n_there = len(content) - at
    return (n_there if size >= _STREAMED or size == 0 else size), n_there


def _is_wav(content: bytes) -> bool:
    return content[:4] in (b"RIFF", b"RF64", b"BW64") and content[8:12] == b"WAVE"


def _wav_data(content: bytes) -> tuple[int, int]:
    """Find where the samples begin and how many bytes the header tells of; 0, 0 if nowhere."""
    at, size_64 = 12, 0
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8
        if name == b"ds64":
            size_64 = int.from_bytes(content[at + 8 : at + 16], "little")
        if name == b"data":
            return at, (size_64 or size if size == 0xFFFFFFFF else size)
        at += size + size % 2
    return 0, 0


def _with_its_size(content: bytes) -> bytes:
    """Give a streamed wav of size 0 the size it has; other streams libsndfile understands."""
    at, size = _wav_data(content) if _is_wav(content) else (0, 0)
    n_there = len(content) - at
    next_chunk = 8 + int.from_bytes(content[at + 4 : at + 8], "little")
    if not at or size or next_chunk in (n_there, n_there - 1):  # another chunk, not samples
        return content
    return content[: at - 4] + n_there.to_bytes(4, "little") + content[at:]


def _has_its_last_page(content: bytes) -> bool:
    """Tell whether an Ogg file ends with a whole page that is marked as the last of its stream."""
    page = content[content.rfind(b"OggS") :]
    if len(page) < 27:
        return False
    n_segments = page[26]
    return bool(page[5] & 4) and len(page) >= 27 + n_segments + sum(page[27 : 27 + n_segments])


def _not_a_recording(content: bytes, error: Exception) -> str:
    reason = str(getattr(error, "error_string", error)).rstrip(".")
    return f"not a readable recording: {reason} (it begins with {content[:12]!r})"


def _check_samples(samples: Waveform, rate: int, subtype: str) -> None:
    is_finite = np.isfinite(samples)
    if not is_finite.all():
        first = int(np.argmin(is_finite))
        raise ClipError(
            f"{np.count_nonzero(~is_finite)} of {len(samples)} samples are NaN or infinite, "
            f"first at {first / rate:.3f} s"
        )
    loudest = float(np.abs(samples).max())
    if subtype in ("FLOAT", "DOUBLE") and loudest > INT16_SCALED:
        raise ClipError(
            f"float samples up to {loudest:g} where -1 to 1 is expected, as if 16-bit integers "
            "had been stored as floats; divide them by 32768"
        )


def _resample(samples: Waveform, own_rate: int, rate: int) -> Waveform:
    """Resample as `librosa.load` does, to `ceil(n * rate / own_rate)` samples."""
    if own_rate == rate:
        return samples
    n_samples = math.ceil(len(samples) * (float(rate) / own_rate))
    resampled: Waveform = soxr.resample(samples, own_rate, rate, quality="soxr_hq")
    return np.pad(resampled[:n_samples], (0, max(0, n_samples - len(resampled))))


def _trimmed(waveform: Waveform) -> Waveform:
    import librosa

    trimmed: Waveform = librosa.effects.trim(waveform, top_db=TRIM_DB)[0]
    return trimmed


def _denoised(waveform: Waveform) -> Waveform:
    import librosa

    n_samples = len(waveform)
    padded = np.pad(waveform, (0, max(0, DENOISE_N_FFT - n_samples)))
    spectrum = librosa.stft(padded, n_fft=DENOISE_N_FFT, hop_length=DENOISE_HOP)
    magnitude = np.abs(spectrum)
    left = np.maximum(magnitude - np.median(magnitude, axis=1, keepdims=True), 0.0)
    spectrum *= left / np.maximum(magnitude, np.finfo(np.float32).tiny)
    denoised: Waveform = librosa.istft(
        spectrum, hop_length=DENOISE_HOP, n_fft=DENOISE_N_FFT, length=n_samples
    )
    return denoised


def _normalised(waveform: Waveform, how: str) -> Waveform:
    if how == "none":
        return waveform
    samples = waveform.astype(np.float64)
    if how == "rms":
        samples *= 0.05 / math.sqrt(float(np.mean(samples**2)) + 1e-12)
    elif peak := float(np.abs(samples).max(initial=0.0)):
        samples /= peak
    return samples.astype(np.float32)


def _lengthened(waveform: Waveform, rate: int, min_samples: int, how: str) -> tuple[Waveform, str]:
    n_samples = len(waveform)
    n_lacking = min_samples - n_samples
    if n_lacking <= 0:
        return waveform, ""
    if how == "error" or not n_samples:
        raise ClipError(
            f"{n_samples / rate:.3f} s long, the encoder needs {min_samples / rate:.3f} s; "
            "--short pad or --short repeat lengthens such clips"
        )
    if how == "pad":
        return np.pad(waveform, (0, n_lacking)), f"padded by {n_lacking / rate:.3f} s of zeros"
    repeated = np.resize(waveform, min_samples)
    return repeated, f"repeated from {n_samples / rate:.3f} s to {min_samples / rate:.3f} s"
