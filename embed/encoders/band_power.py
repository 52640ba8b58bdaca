"""Power of a waveform in bands of frequency, in dB: what encoders without a network stand on.

librosa's definitions: periodic Hann window, centred frames with zero padding, power spectrum. The
Slaney mel filters equal `librosa.filters.mel`; librosa itself is not imported, since that takes
longer than to encode a thousand clips.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

FLOOR = 1e-10
"""Added to the power before the logarithm: silence is -100 dB."""
FRAMES_AT_ONCE = 64  # their spectra stay in the cache of a CPU core
BANDS_AT_ONCE = 16  # of the filters, which are zero nearly everywhere


def hann(length: int, n_fft: int) -> Array:
    """Return a periodic Hann window of `length` samples in the middle of `n_fft` samples."""
    window = np.zeros(n_fft)
    start = (n_fft - length) // 2
    phase = 2 * np.pi * np.arange(length) / length
    window[start : start + length] = 0.5 - 0.5 * np.cos(phase)
    return window.astype(np.float32)


class BandFilters:
    """A filter bank `(n_bins, n_bands)`, multiplied only where it is not zero."""

    def __init__(self, matrix: NDArray[np.floating]) -> None:
        self.n_bands = matrix.shape[1]
        self.pieces: list[tuple[slice, slice, Array]] = []
        for start in range(0, self.n_bands, BANDS_AT_ONCE):
            bands = slice(start, min(start + BANDS_AT_ONCE, self.n_bands))
            used = np.flatnonzero(matrix[:, bands].any(axis=1))
            bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
            piece = np.ascontiguousarray(matrix[bins, bands], dtype=np.float32)
            self.pieces.append((bins, bands, piece))

    def apply(self, power: Array, out: Array) -> None:
        """Sum the power `(n_frames, n_bins)` of each band into `out`, `(n_frames, n_bands)`."""
        for bins, bands, piece in self.pieces:
            np.matmul(power[:, bins], piece, out=out[:, bands])


@dataclass(frozen=True)
class BandPower:
    """Waveforms `(n_samples,)` to the power of bands in dB, `(n_frames, n_bands)`."""

    window: Array
    hop_length: int
    filters: BandFilters

    def __call__(self, waveform: Array) -> Array:
        """Compute `1 + n_samples // hop_length` frames, in float32."""
        from scipy.fft import rfft

        n_fft, hop = len(self.window), self.hop_length
        n_frames = 1 + len(waveform) // hop
        bands = np.empty((n_frames, self.filters.n_bands), np.float32)
        buffer = np.empty((FRAMES_AT_ONCE, n_fft), np.float32)
        for start in range(0, n_frames, FRAMES_AT_ONCE):
            part = slice(start, min(start + FRAMES_AT_ONCE, n_frames))
            length = (part.stop - start - 1) * hop + n_fft
            samples = _cut(waveform, start * hop - n_fft // 2, length)
            frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop]
            windowed = np.multiply(frames, self.window, out=buffer[: len(frames)])
            spectrum = rfft(windowed, axis=1, workers=1, overwrite_x=True)
            squares = spectrum.view(np.float32)  # real and imaginary parts in turns
            np.square(squares, out=squares)
            self.filters.apply(squares[:, ::2] + squares[:, 1::2], out=bands[part])
        return decibels(bands)


def _cut(waveform: Array, start: int, length: int) -> Array:
    """Return `length` samples from `start` on, with zeros before and after the waveform."""
    inside = waveform[max(start, 0) : start + length]
    if len(inside) == length:
        return inside
    padded = np.zeros(length, np.float32)
    at = max(-start, 0)
    padded[at : at + len(inside)] = inside
    return padded


def decibels(power: Array) -> Array:
    """Turn power into dB, in place."""
    power += np.float32(FLOOR)
    np.log(power, out=power)
    power *= np.float32(10 / np.log(10))
    return power


def mel_filters(
    sample_rate: int, n_fft: int, n_bands: int, fmin: float, fmax: float
) -> NDArray[np.float32]:
    """Return Slaney's mel filters, `(1 + n_fft // 2, n_bands)`: triangles of equal area.

    Slaney, "Auditory toolbox", Interval Research Corporation, 1998: the mel scale is linear below
    1 kHz and logarithmic above it.
    """
    edges = mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), n_bands + 2))
    triangles = triangular_filters(np.arange(1 + n_fft // 2) * (sample_rate / n_fft), edges)
    # rounded between the two steps, as librosa does
    return (triangles.astype(np.float32) * (2 / (edges[2:] - edges[:-2]))).astype(np.float32)


def triangular_filters(
    frequencies: NDArray[np.floating], edges: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Return triangles over `frequencies`, `(n_frequencies, len(edges) - 2)`, of height one.

    Triangle i rises from edge i to edge i + 1 and falls to edge i + 2.
    """
    rise = (frequencies[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - frequencies[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rise, fall))


def htk_filters(
    sample_rate: int, n_fft: int, n_bands: int, fmin: float, fmax: float
) -> NDArray[np.floating]:
    """Return HTK's mel filters, `(1 + n_fft // 2, n_bands)`: triangles of height one.

    They are of equal width on HTK's mel scale, 1127 ln(1 + f / 700), on which they are linear.
    """
    frequencies = np.arange(1 + n_fft // 2) * (sample_rate / n_fft)
    lowest, highest = 1127 * np.log1p(np.array([fmin, fmax]) / 700)
    edges = np.linspace(lowest, highest, n_bands + 2)
    return triangular_filters(1127 * np.log1p(frequencies / 700), edges)


HZ_PER_MEL = 200 / 3  # below BREAK_HZ
BREAK_HZ = 1000.0
MELS_PER_E = 27 / np.log(6.4)  # above it: 27 mels for each factor of 6.4


def hz_to_mel(hz: float) -> float:
    """Return the place of a frequency on Slaney's mel scale."""
    if hz < BREAK_HZ:
        return hz / HZ_PER_MEL
    return float(BREAK_HZ / HZ_PER_MEL + MELS_PER_E * np.log(hz / BREAK_HZ))


def mel_to_hz(mel: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the frequencies at places on Slaney's mel scale."""
    above = mel - BREAK_HZ / HZ_PER_MEL
    return np.where(above < 0, mel * HZ_PER_MEL, BREAK_HZ * np.exp(above / MELS_PER_E))
