"""Four numbers of the waveform itself: how loud, how impulsive and how bright a clip is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embed.encoder import Encoder

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Wave(Encoder):
    """Level in dB, peakedness of the waveform and of its differences, brightness in dB.

    Peakedness is the logarithm of the kurtosis, brightness the power of the differences of
    neighbouring samples over that of the samples. Computed on the CPU, whatever `device` says.
    """

    outputs: ClassVar[tuple[str, ...]] = ("clip",)
    concurrent: ClassVar[bool] = True

    @property
    def sample_rate(self) -> int:
        return 16_000

    @property
    def min_samples(self) -> int:
        return 2

    def forward(self, waveforms: NDArray[np.float32], wanted: frozenset[str]) -> dict[str, Any]:
        return {"clip": np.stack([_four_numbers(waveform) for waveform in waveforms])}


def _four_numbers(waveform: NDArray[np.float32]) -> Array:
    samples = waveform.astype(np.float64)
    samples -= samples.mean()
    power, peakedness = _moments(samples)
    power_of_differences, peakedness_of_differences = _moments(np.diff(samples))
    level = 10 * np.log10(power)
    brightness = 10 * np.log10(power_of_differences / power + 1e-10)
    return np.array([level, peakedness, peakedness_of_differences, brightness])


def _moments(samples: Array) -> tuple[float, float]:
    """Return the power, above zero, and the logarithm of the kurtosis."""
    squares = np.square(samples)
    mean_square = float(np.mean(squares))
    fourth = float(squares @ squares) / len(squares)
    return mean_square + 1e-12, float(np.log(fourth / (mean_square**2 + 1e-20) + 1e-3))
