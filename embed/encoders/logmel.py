"""Log-mel spectrograms and MFCC: encoders without weights.

librosa's definitions (Hann window, centred frames with zero padding, Slaney mel filters), batched
in torch. Agreement with librosa is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from embed.encoder import Encoder
from embed.pooling import Fluctuation, Pooling

AMIN = 1e-10  # floor of the power before the logarithm, -100 dB
FRAMES_AT_ONCE = 4096  # bounds the spectrum's memory for recordings of hours


@dataclass(frozen=True, kw_only=True)
class LogMel(Encoder):
    """Log-mel power in dB: frames `(n_clips, 1 + n_samples // hop_length, n_mels)`."""

    sample_rate: int = 16_000
    n_fft: int = 1024
    win_length: int = 0
    hop_length: int = 512
    n_mels: int = 128
    fmin: float = 0.0
    fmax: float = 0.0

    outputs: ClassVar[tuple[str, ...]] = ("frames", "clip", "bands")
    default_pooling: ClassVar[str] = "fluctuation"
    batch_size: ClassVar[dict[str, int]] = {"cpu": 2, "cuda": 256}  # larger leaves the CPU's cache

    def __post_init__(self) -> None:
        if not 0 <= self.win_length <= self.n_fft:
            raise ValueError(f"win_length is at most n_fft ({self.n_fft}), got {self.win_length}")
        if min(self.sample_rate, self.n_fft, self.hop_length, self.n_mels) < 1:
            raise ValueError("sample_rate, n_fft, hop_length and n_mels are positive")

    @property
    def min_samples(self) -> int:
        return self.n_fft

    def refuses(self, pooling: Pooling) -> str:
        if isinstance(pooling, Fluctuation) and self.n_mels % 64:
            return f"fluctuation needs n_mels to be a multiple of 64, got {self.n_mels}"
        return super().refuses(pooling)

    @cached_property
    def _window(self) -> Tensor:
        return torch.hann_window(self.win_length or self.n_fft, device=self.device)

    @cached_property
    def _filters(self) -> Tensor:
        from librosa.filters import mel

        filters = mel(
            sr=self.sample_rate,
            n_fft=self.n_fft,
            n_mels=self.n_mels,
            fmin=self.fmin,
            fmax=self.fmax or None,
        )
        return torch.from_numpy(np.ascontiguousarray(filters.T)).to(self.device)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return `(n_clips, n_frames, n_mels)` in dB."""
        padded = torch.nn.functional.pad(waveforms, (self.n_fft // 2, self.n_fft // 2))
        n_frames = 1 + waveforms.shape[1] // self.hop_length
        return torch.cat(
            [
                self._log_mel_of_frames(padded, start, min(start + FRAMES_AT_ONCE, n_frames))
                for start in range(0, n_frames, FRAMES_AT_ONCE)
            ],
            dim=1,
        )

    def _log_mel_of_frames(self, padded: Tensor, start: int, stop: int) -> Tensor:
        samples = padded[:, start * self.hop_length : (stop - 1) * self.hop_length + self.n_fft]
        spectrum = torch.stft(
            samples,
            self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length or self.n_fft,
            window=self._window,
            center=False,
            return_complex=True,
        )  # (n_clips, 1 + n_fft // 2, stop - start)
        power = spectrum.abs().square().transpose(1, 2)
        return 10 * (power @ self._filters + AMIN).log10()

    def features(self, waveforms: Tensor) -> Tensor:
        return self.log_mel(waveforms)

    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        frames = self.features(waveforms)  # (n_clips, n_frames, dim)
        mean = frames.mean(dim=1)
        return {"frames": frames, "clip": mean, "bands": mean.unsqueeze(2)}


@dataclass(frozen=True, kw_only=True)
class MFCC(LogMel):
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of the log-mel in dB."""

    n_mfcc: int = 40

    default_pooling: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_mfcc <= self.n_mels:
            raise ValueError(f"n_mfcc is between 1 and n_mels ({self.n_mels}), got {self.n_mfcc}")

    def refuses(self, pooling: Pooling) -> str:
        if isinstance(pooling, Fluctuation):
            return "fluctuation needs log-mel in dB, not cepstral coefficients"
        return super().refuses(pooling)

    @cached_property
    def _dct(self) -> Tensor:
        from scipy.fft import dct

        basis = dct(np.eye(self.n_mels), type=2, norm="ortho", axis=0)[: self.n_mfcc]
        return torch.from_numpy(np.ascontiguousarray(basis.T, dtype=np.float32)).to(self.device)

    def features(self, waveforms: Tensor) -> Tensor:
        return self.log_mel(waveforms) @ self._dct
