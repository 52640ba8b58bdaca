"""What is done to a waveform before the encoder: subtract, trim, denoise, normalise, lengthen."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from embed.recordings.dataset import ClipError
from embed.recordings.stereo import without_reference
from ground.options import CountOrZero, check_options

Waveform = NDArray[np.float32]
"""Mono samples `(n_samples,)`, usually in [-1, 1]."""

Channel = CountOrZero | Literal["mean", "near", "far", "mix", "w1"]
NUMBER_OF = {"near": 0, "far": 1}
"""The channels of a stereo recording whose microphones are near to and far from the machine."""

TRIM_DB = 40.0
DENOISE_N_FFT, DENOISE_HOP = 1024, 256


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to each waveform before the encoder; all of it decides the vectors."""

    version: ClassVar[int] = 1
    """Raised whenever the same options would give other waveforms."""

    normalize: Literal["none", "rms", "peak"] = "none"
    trim: bool = False
    """Cut off the beginning and end that are 40 dB below the loudest frame."""
    denoise: bool = False
    """Subtract each frequency's median magnitude over time."""
    channel: Channel = 0
    """The number of a channel, from 0; the mean of all; or how near and far microphone are used:
    `near` and `far` are channels 0 and 1, `mix` is their mean, `w1` is near without far."""
    short: Literal["error", "pad", "repeat"] = "error"
    """What to do with a clip that is shorter than the encoder's minimum."""

    def __post_init__(self) -> None:
        check_options(type(self), asdict(self))
        number = NUMBER_OF.get(str(self.channel), self.channel)  # one fingerprint for both names
        object.__setattr__(self, "channel", number)


def preprocess(waveform: Waveform, preprocessing: Preprocessing) -> Waveform:
    """Trim, denoise and normalise a waveform `(n_samples,)`, in this order.

    Near and far, `(n_samples, 2)`, become one first: the channel `w1` is carried as both till here.
    """
    if waveform.ndim == 2:
        waveform = without_reference(waveform[:, 0], waveform[:, 1])
    if preprocessing.trim:
        waveform = _trimmed(waveform)
    if preprocessing.denoise:
        waveform = _denoised(waveform)
    waveform = _normalised(waveform, preprocessing.normalize)
    return np.ascontiguousarray(waveform, dtype=np.float32)


def lengthen(
    waveform: Waveform, sample_rate: int, min_samples: int, how: str
) -> tuple[Waveform, str]:
    """Bring a waveform to at least `min_samples`; also say what was done, or "".

    ClipError for one that is too short where `how` is `error`.
    """
    n_samples = len(waveform)
    n_lacking = min_samples - n_samples
    if n_lacking <= 0:
        return waveform, ""
    seconds, needed = n_samples / sample_rate, min_samples / sample_rate
    if how == "error" or not n_samples:
        raise ClipError(
            f"{seconds:.3f} s long, the encoder needs {needed:.3f} s; "
            "--short pad or --short repeat lengthens such clips"
        )
    if how == "pad":
        padded = np.pad(waveform, (0, n_lacking))
        return padded, f"padded by {n_lacking / sample_rate:.3f} s of zeros"
    return np.resize(waveform, min_samples), f"repeated from {seconds:.3f} s to {needed:.3f} s"


def _trimmed(waveform: Waveform) -> Waveform:
    import librosa

    trimmed: Waveform = librosa.effects.trim(waveform, top_db=TRIM_DB)[0]
    return trimmed


def _denoised(waveform: Waveform) -> Waveform:
    """Subtract each frequency's median magnitude over time; magnitudes stay at least 0."""
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
    """Scale to an RMS of 0.05 or a peak of 1; silence stays as it is."""
    if how == "none":
        return waveform
    samples = waveform.astype(np.float64)
    if how == "rms":
        samples *= 0.05 / math.sqrt(float(np.mean(samples**2)) + 1e-12)
    elif peak := float(np.abs(samples).max(initial=0.0)):
        samples /= peak
    return samples.astype(np.float32)
