"""A second look at a clip, in finer frequencies: the mean level of bands, and how they move."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embed.encoder import Encoder
from embed.encoders.band_power import BandFilters, BandPower, hann, triangular_filters
from embed.pooling import groups_of_bands, movement

SAMPLE_RATE = 16_000
N_FFT, HOP_LENGTH = 2048, 512
N_BANDS, N_GROUPS = 96, 12
LOWEST_HZ, HIGHEST_HZ = 20.0, 8000.0


@dataclass(frozen=True, kw_only=True)
class Spectrum(Encoder):
    """120 numbers of a clip: the level of 96 bands, fluctuation and flux of 12 groups of bands.

    The bands are triangles on a logarithmic grid from 20 Hz to 8 kHz, each with the mean power
    below it, in dB. Level is their mean over time; fluctuation and flux are those of the pooling
    `fluctuation`. Computed on the CPU, whatever `device` says.
    """

    outputs: ClassVar[tuple[str, ...]] = ("clip",)
    concurrent: ClassVar[bool] = True

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def min_samples(self) -> int:
        return N_FFT

    @cached_property
    def _band_power(self) -> BandPower:
        return BandPower(hann(N_FFT, N_FFT), HOP_LENGTH, BandFilters(logarithmic_filters()))

    def forward(self, waveforms: NDArray[np.float32], wanted: frozenset[str]) -> dict[str, Any]:
        bands = np.stack([self._band_power(waveform) for waveform in waveforms])
        level = bands.mean(axis=1, dtype=np.float64)
        groups = groups_of_bands(bands, N_BANDS // N_GROUPS)
        return {"clip": np.concatenate([level, movement(groups)], axis=1)}


def corners_hz() -> NDArray[np.float64]:
    """Return the logarithmic grid, `(N_BANDS + 2,)`: band i reaches from corner i to i + 2."""
    return np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_BANDS + 2)


def logarithmic_filters() -> NDArray[np.floating]:
    """Return triangles on a logarithmic grid, `(1 + N_FFT // 2, N_BANDS)`, of sum one.

    A triangle that holds no frequency of the spectrum takes the nearest one.
    """
    frequencies = np.arange(1 + N_FFT // 2) * (SAMPLE_RATE / N_FFT)
    edges = corners_hz()
    filters = triangular_filters(frequencies, edges)
    (empty,) = np.nonzero(filters.sum(axis=0) == 0)
    nearest = np.abs(frequencies[:, None] - edges[1:-1][empty]).argmin(axis=0)
    filters[nearest, empty] = 1
    filters /= filters.sum(axis=0)
    return filters
