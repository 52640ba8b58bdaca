"""Kaldi's log-mel filter bank in torch, batched: what AST, BEATs and EAT hear.

Frames of 25 ms every 10 ms lie within the waveform; of each, the mean is removed, then follow
pre-emphasis, a window and the power in triangles of equal width on HTK's mel scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from embed.encoders.band_power import htk_filters

RATE = 16_000
FRAME, HOP, N_FFT = 400, 160, 512
FMIN, FMAX = 20.0, 8000.0
PREEMPHASIS = 0.97
LOG_FLOOR = 1.192092955078125e-07
POVEY_POWER = 0.85


def window_of(name: str) -> Tensor:
    """Return one of Kaldi's windows, `hann` (symmetric) or `povey`, `(FRAME,)` in float64."""
    hann = torch.hann_window(FRAME, periodic=False, dtype=torch.float64)
    return {"hann": hann, "povey": hann**POVEY_POWER}[name]


class Fbank(nn.Module):
    """Waveforms `(n, n_samples)` to normalised log-mel `(n, n_frames, n_bands)`.

    Waveforms are multiplied by `scale`. Log-mel is padded with zeros to `n_frames`, if given, and
    becomes (x - mean) / (2 * std). Computed in float64: in float32, pure tones and square waves
    miss the reference by 5e-4.
    """

    window: Tensor
    mel: Tensor

    def __init__(
        self,
        *,
        n_bands: int = 128,
        window: str = "hann",
        scale: float = 1.0,
        mean: float = 0.0,
        std: float = 0.5,
        n_frames: int = 0,
    ) -> None:
        super().__init__()
        self.scale, self.mean, self.std, self.n_frames = scale, mean, std, n_frames
        self.register_buffer("window", window_of(window))
        mel = htk_filters(RATE, N_FFT, n_bands, FMIN, FMAX)
        self.register_buffer("mel", torch.from_numpy(mel))

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return log-mel before padding and normalisation."""
        frames = waveforms.double().unfold(1, FRAME, HOP) * self.scale  # (n, n_frames, FRAME)
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - PREEMPHASIS * before) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames, N_FFT))
        power = spectrum.square().sum(dim=-1)
        return (power @ self.mel).clamp(min=LOG_FLOOR).log().float()

    def forward(self, waveforms: Tensor) -> Tensor:
        # one waveform at a time fits into a CPU's cache; a GPU is faster with all of them
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            return torch.cat([self.forward(one) for one in torch.split(waveforms, 1)])
        log_mel = self.log_mel(waveforms)
        if self.n_frames:
            log_mel = functional.pad(log_mel, (0, 0, 0, self.n_frames - log_mel.shape[1]))
        return (log_mel - self.mean) / (2 * self.std)
