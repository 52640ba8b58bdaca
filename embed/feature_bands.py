"""Which frequencies each number of a vector is about, for encoders whose numbers are bands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embed import make_encoder, make_pooling
from embed.encoders.band_power import hz_to_mel, mel_to_hz
from embed.encoders.spectrum import N_BANDS, N_GROUPS, corners_hz
from embed.pooling import FULL_WIDTH

Array = NDArray[np.floating]

ONE_PER_BAND = ("mean", "max", "clip", "gwrp", "gem", "rdp", "quiet")
"""Poolings of log-mel frames that give one level per band."""
WAVE_KINDS = ("level", "peakedness", "peakedness of differences", "brightness")


@dataclass(frozen=True, eq=False)
class FeatureBands:
    """Per number of a vector: its band in Hz, (dim,) each, and what it says about the band.

    A kind is `level`, `quiet`, `fluctuation` or `flux`; a number about the whole waveform has NaN
    edges and a kind of `WAVE_KINDS`.
    """

    low_hz: Array
    high_hz: Array
    kind: tuple[str, ...]
    frame_seconds: float | None = None
    """From one frame to the next, where the numbers are those of a frame."""


def feature_bands(
    encoder: str,
    pooling: str,
    encoder_options: Mapping[str, Any] | None = None,
    pooling_options: Mapping[str, Any] | None = None,
) -> FeatureBands | None:
    """Name the band of each number of an encoder's vectors; None where they are not bands.

    For the pooling `frames` the numbers are those of one frame.
    """
    if encoder == "wave":
        none = np.full(len(WAVE_KINDS), np.nan)
        return FeatureBands(none, none, WAVE_KINDS)
    if encoder == "spectrum":
        return _level_and_movement(_triangles(corners_hz()), 1, N_BANDS // N_GROUPS)
    if encoder != "logmel":
        return None
    edges = mel_bands(**(encoder_options or {}))
    n_bands = len(edges) - 1
    if pooling == "fluctuation":
        fluctuation: Any = make_pooling(pooling, **(pooling_options or {}))
        return _level_and_movement(edges, 2, FULL_WIDTH // fluctuation.groups)
    if pooling not in (*ONE_PER_BAND, "frames"):
        return None
    logmel: Any = make_encoder(encoder, **(encoder_options or {}))
    seconds = logmel.hop_length / logmel.sample_rate if pooling == "frames" else None
    kind = "quiet" if pooling == "quiet" else "level"
    return FeatureBands(edges[:-1], edges[1:], (kind,) * n_bands, seconds)


def mel_bands(**options: Any) -> Array:
    """Edges of the bands of a `logmel` with these options, in Hz: (n_mels + 1,).

    A mel filter is a triangle; its band reaches to where it is at half its height, so that
    neighbouring bands meet.
    """
    encoder: Any = make_encoder("logmel", **options)
    fmax = encoder.fmax or encoder.sample_rate / 2
    mels = np.linspace(hz_to_mel(encoder.fmin), hz_to_mel(fmax), encoder.n_mels + 2)
    return _triangles(mel_to_hz(mels))


def _triangles(corners: Array) -> Array:
    """Edges of the bands of triangles that reach from each corner to the next but one."""
    return (corners[:-1] + corners[1:]) / 2


def _level_and_movement(edges: Array, per_level: int, per_group: int) -> FeatureBands:
    """Bands of the pooling `fluctuation`: levels, then fluctuation and flux of groups of bands."""
    levels, groups = edges[::per_level], edges[::per_group]
    low = np.concatenate([levels[:-1], groups[:-1], groups[:-1]])
    high = np.concatenate([levels[1:], groups[1:], groups[1:]])
    n_levels, n_groups = len(levels) - 1, len(groups) - 1
    kind = ("level",) * n_levels + ("fluctuation",) * n_groups + ("flux",) * n_groups
    return FeatureBands(low, high, kind)
