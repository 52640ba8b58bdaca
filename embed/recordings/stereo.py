"""Stereo recordings: a microphone near to the machine, and one far from it that hears the rest.

W1 subtracts from the near channel what a fixed linear filter makes of the far one. The filter has
one complex factor per frequency, fitted by least squares to the whole recording or window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_FFT, HOP = 1024, 512
PEAK = 0.9
POWER_FLOOR = 1e-12


def without_reference(near: NDArray[np.float32], far: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract from `near` what is explained by `far`, both `(n_samples,)`; silence stays silence.

    Both are scaled by their joint peak to 0.9. With C and F their short-time spectra (1024 samples,
    hop 512, periodic Hann), `H[f] = sum_t C conj(F) / (sum_t |F|^2 + 1e-12)`, and the result is the
    inverse of `C - H F`. Broadband sound is removed only where it reaches both microphones within
    a small part of the 1024 samples; docs/data.md has measured figures.
    """
    import librosa

    peak = float(max(np.abs(near).max(initial=0.0), np.abs(far).max(initial=0.0)))
    gain = PEAK / peak if peak else 1.0
    n_samples = len(near)
    padding = (0, max(0, N_FFT - n_samples))
    target, reference = (
        librosa.stft(
            np.pad(channel.astype(np.float64) * gain, padding), n_fft=N_FFT, hop_length=HOP
        )
        for channel in (near, far)
    )
    shared = np.sum(target * reference.conj(), axis=1, keepdims=True)
    power = np.sum(np.abs(reference) ** 2, axis=1, keepdims=True)
    residual = target - shared / (power + POWER_FLOOR) * reference
    waveform = librosa.istft(residual, n_fft=N_FFT, hop_length=HOP, length=n_samples)
    return np.asarray(waveform, dtype=np.float32)
