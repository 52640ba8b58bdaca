"""Log-mel spectrograms and MFCC: encoders without weights, equal to librosa's, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embed.encoder import Encoder
from embed.encoders.band_power import BandFilters, BandPower, hann, mel_filters
from embed.pooling import Fluctuation, Pooling
from ground.options import Count, CountOrZero, NotNegative

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LogMel(Encoder):
    """Log-mel power in dB: frames `(n_clips, 1 + n_samples // hop_length, n_mels)`.

    `win_length` 0 is `n_fft`, `fmax` 0 is half the sample rate. Computed on the CPU, whatever
    `device` says.
    """

    sample_rate: Count = 16_000
    n_fft: Count = 1024
    win_length: CountOrZero = 0
    hop_length: Count = 512
    n_mels: Count = 128
    fmin: NotNegative = 0.0
    fmax: NotNegative = 0.0

    outputs: ClassVar[tuple[str, ...]] = ("frames", "clip", "bands")
    default_pooling: ClassVar[str] = "fluctuation"
    concurrent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.win_length <= self.n_fft:
            raise ValueError(f"win_length is at most n_fft ({self.n_fft}), got {self.win_length}")
        if not self.fmin < (self.fmax or self.sample_rate / 2):
            raise ValueError(f"fmin is below fmax, got {self.fmin} and {self.fmax} Hz")

    @property
    def min_samples(self) -> int:
        return self.n_fft

    @property
    def width(self) -> int:
        return self.n_mels

    @cached_property
    def _band_power(self) -> BandPower:
        fmax = self.fmax or self.sample_rate / 2
        mel = mel_filters(self.sample_rate, self.n_fft, self.n_mels, self.fmin, fmax)
        window = hann(self.win_length or self.n_fft, self.n_fft)
        return BandPower(window, self.hop_length, BandFilters(mel))

    def log_mel(self, waveforms: Array) -> Array:
        """Turn waveforms `(n_clips, n_samples)` into `(n_clips, n_frames, n_mels)` in dB."""
        n_frames = 1 + waveforms.shape[1] // self.hop_length
        frames = np.empty((len(waveforms), n_frames, self.n_mels), np.float32)
        for i, waveform in enumerate(waveforms):
            frames[i] = self._band_power(waveform)
        return frames

    def features(self, waveforms: Array) -> Array:
        """Turn waveforms `(n_clips, n_samples)` into the frames of this encoder."""
        return self.log_mel(waveforms)

    def forward(self, waveforms: Array, wanted: frozenset[str]) -> dict[str, Any]:
        frames = self.features(waveforms)
        if wanted == {"frames"}:
            return {"frames": frames}
        mean = frames.mean(axis=1, dtype=np.float64)  # (n_clips, width)
        return {"frames": frames, "clip": mean, "bands": mean[:, :, None]}


@dataclass(frozen=True, kw_only=True)
class MFCC(LogMel):
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of the log-mel in dB."""

    n_mfcc: Count = 40

    default_pooling: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_mfcc <= self.n_mels:
            raise ValueError(f"n_mfcc is between 1 and n_mels ({self.n_mels}), got {self.n_mfcc}")

    @property
    def width(self) -> int:
        return self.n_mfcc

    def why_not(self, pooling: Pooling) -> str:
        if isinstance(pooling, Fluctuation):
            return "fluctuation needs log-mel in dB, not cepstral coefficients"
        return super().why_not(pooling)

    @cached_property
    def _dct(self) -> Array:
        from scipy.fft import dct

        basis = dct(np.eye(self.n_mels), type=2, norm="ortho", axis=0)[: self.n_mfcc]
        return np.ascontiguousarray(basis.T, dtype=np.float32)

    def features(self, waveforms: Array) -> Array:
        return self.log_mel(waveforms) @ self._dct
