"""From frames to one vector per clip: named choices that every encoder shares.

A pooling reads one output of the encoder (`source`). Those over `frames` take
`(n_clips, n_frames, dim)` and return `(n_clips, dim')`. They take numpy arrays and torch tensors,
on any device, by the functions that both have (the array API), and give back what they took.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from array_api_compat import array_namespace, device

from embed.fingerprint import ADDED_LATER
from ground.options import Count, NotNegative

Array = Any
"""A numpy array or a torch tensor."""


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One way to make an encoder's output an embedding."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same frames and options would give other vectors."""

    @property
    def source(self) -> str:
        """The encoder's output that is pooled."""
        return "frames"

    def why_not(self, dim: int) -> str:
        """Say why frames of `dim` numbers cannot be pooled, or "" where they can."""
        return ""

    def __call__(self, x: Array) -> Array:
        return x


class Clip(Pooling):
    """The encoder's own vector."""

    name, source = "clip", "clip"


class Cls(Pooling):
    """The first token of a transformer."""

    name, source = "cls", "cls"


class Frames(Pooling):
    """`(n_clips, n_frames, dim)`: time kept."""

    name = "frames"


class Mean(Pooling):
    """Mean over time."""

    name = "mean"

    def __call__(self, x: Array) -> Array:
        return mean_over_time(x)


class Max(Pooling):
    """Maximum over time."""

    name = "max"

    def __call__(self, x: Array) -> Array:
        return array_namespace(x).max(x, axis=1)


class MeanMax(Pooling):
    """Mean and maximum over time, `(n_clips, 2 * dim)`."""

    name = "mean_max"

    def __call__(self, x: Array) -> Array:
        xp = array_namespace(x)
        return xp.concat([mean_over_time(x), xp.max(x, axis=1)], axis=1)


@dataclass(frozen=True, kw_only=True)
class GWRP(Pooling):
    """Global weighted ranking pooling: frames sorted from high to low, weights r^k.

    r = 1 is the mean, r = 0 the maximum. Kolesnikov and Lampert, "Seed, expand and constrain",
    ECCV 2016; for anomalous sounds Guan et al., "Time-weighted frequency domain audio
    representation with GMM estimator", ICASSP 2023.
    """

    r: Annotated[float, Ge(0), Le(1)] = 0.7
    name = "gwrp"

    def __call__(self, x: Array) -> Array:
        xp = array_namespace(x)
        weights = self.r ** np.arange(x.shape[1], dtype=np.float64)
        weights = xp.asarray(weights / weights.sum(), dtype=x.dtype, device=device(x))
        ranked = xp.sort(x, axis=1, descending=True, stable=False)
        return xp.tensordot(ranked, weights, axes=((1,), (0,)))


@dataclass(frozen=True, kw_only=True)
class GeM(Pooling):
    """Generalized mean: (mean over time of x^p)^(1/p).

    p = 1 is the mean, p to infinity the maximum. Powers need non-negative values: a column with
    a negative minimum is shifted by it before and back after, which keeps both limits. Radenovic
    et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
    """

    p: Annotated[float, Ge(1)] = 6.0
    name = "gem"

    def __call__(self, x: Array) -> Array:
        xp = array_namespace(x)
        shift = xp.clip(xp.min(x, axis=1, keepdims=True), max=0.0)
        positive = x - shift
        # relative to the maximum, so that no power leaves the range of float32
        tiny = float(xp.finfo(x.dtype).smallest_normal)
        peak = xp.clip(xp.max(positive, axis=1, keepdims=True), min=tiny)
        mean = mean_over_time((positive / peak) ** self.p)
        return mean ** (1 / self.p) * peak[:, 0] + shift[:, 0]


@dataclass(frozen=True, kw_only=True)
class RDP(Pooling):
    """Relative deviation pooling: frames weighted by their distance from the clip's mean.

    With d_t the distance of frame t, its weight is (1 + d_t / max d)^gamma, normalised to sum one;
    gamma = 0 is the mean, and where all distances are 0 so is any gamma. Wilkinghoff, Yadav and
    Tan, "Temporal pooling strategies for training-free anomalous sound detection", 2026,
    arXiv:2603.04605.
    """

    gamma: NotNegative = 10.0
    name = "rdp"
    version = 2  # the first weighted by (d_t / mean d)^gamma

    def __call__(self, x: Array) -> Array:
        xp = array_namespace(x)
        deviation = xp.linalg.vector_norm(x - mean_over_time(x)[:, None, :], axis=2)
        largest = xp.max(deviation, axis=1, keepdims=True)
        tiny = float(xp.finfo(x.dtype).smallest_normal)
        relative = deviation / xp.clip(largest, min=tiny)
        # divided by the largest before the power, so that none leaves the range of float32
        weights = ((1 + relative) / (1 + xp.max(relative, axis=1, keepdims=True))) ** self.gamma
        weights = weights / xp.sum(weights, axis=1, keepdims=True)
        return xp.matmul(weights[:, None, :], x)[:, 0]


@dataclass(frozen=True, kw_only=True)
class Bands(Pooling):
    """`(n_clips, n_bands, dim)`: frequency kept, time pooled, each band by itself.

    `over_time` is "mean" (the encoder's own output `bands`), "max", or "rdp" with its `gamma`.
    """

    over_time: Literal["mean", "max", "rdp"] = field(default="mean", metadata=ADDED_LATER)
    gamma: NotNegative = field(default=10.0, metadata=ADDED_LATER)
    name = "bands"

    @property
    def source(self) -> str:
        return "bands" if self.over_time == "mean" else "map"

    def __call__(self, x: Array) -> Array:
        if self.over_time == "mean":
            return x
        xp = array_namespace(x)
        n_clips, n_bands, n_frames, dim = x.shape
        frames = xp.reshape(x, (n_clips * n_bands, n_frames, dim))
        pool = Max() if self.over_time == "max" else RDP(gamma=self.gamma)
        return xp.reshape(pool(frames), (n_clips, n_bands, dim))


class Quiet(Pooling):
    """Mean of the quietest quarter of the frames, per dimension (at least one frame)."""

    name = "quiet"

    def __call__(self, x: Array) -> Array:
        quarter = max(1, x.shape[1] // 4)
        return mean_over_time(array_namespace(x).sort(x, axis=1, stable=False)[:, :quarter])


class Flatten(Pooling):
    """All frames one after the other, `(n_clips, n_frames * dim)`; clips must be equally long."""

    name = "flatten"

    def __call__(self, x: Array) -> Array:
        return array_namespace(x).reshape(x, (x.shape[0], -1))


WIDTH_STEP = 64  # `fluctuation` takes multiples of this
FULL_WIDTH = 128  # the width for which `fluctuation.groups` is stated


@dataclass(frozen=True, kw_only=True)
class Fluctuation(Pooling):
    """How loud each band is and how much it moves: level, fluctuation and flux.

    Takes log-mel in dB, `(n_clips, n_frames, n_mels)`. *Level*: neighbouring bands averaged in
    power, in dB, mean over time. *Fluctuation*: ln(std over time + 0.1) of groups of neighbouring
    bands averaged in dB. *Flux*: the same of the differences of neighbouring frames. Of 128 bands
    there are 64 levels and `groups` groups, 64 + 2 * `groups` numbers in all; of other widths
    there are as many per band. See docs/default.md.
    """

    groups: Count = field(default=32, metadata=ADDED_LATER)
    name = "fluctuation"

    def __post_init__(self) -> None:
        if FULL_WIDTH % self.groups:
            raise ValueError(f"fluctuation.groups divides {FULL_WIDTH}, got {self.groups}")

    def why_not(self, dim: int) -> str:
        step = max(WIDTH_STEP, FULL_WIDTH // self.groups)
        if dim % step:
            return f"fluctuation needs a width (n_mels) that is a multiple of {step}, got {dim}"
        return ""

    def __call__(self, x: Array) -> Array:
        if reason := self.why_not(x.shape[2]):
            raise ValueError(reason)
        xp = array_namespace(x)
        power = xp.exp(x * (math.log(10) / 10))
        level = xp.log(groups_of_bands(power, 2)) * (10 / math.log(10))
        groups = groups_of_bands(x, FULL_WIDTH // self.groups)
        return xp.concat([mean_over_time(level), movement(groups)], axis=1)


def mean_over_time(x: Array) -> Array:
    """Average frames `(n_clips, n_frames, dim)`; summed in float64, however many there are."""
    xp = array_namespace(x)
    return xp.astype(xp.sum(x, axis=1, dtype=xp.float64) / x.shape[1], x.dtype)


def groups_of_bands(x: Array, size: int) -> Array:
    """Average each `size` neighbouring bands of `(n_clips, n_frames, n_bands)`."""
    return sum(x[:, :, i::size] for i in range(size)) / size


def movement(x: Array) -> Array:
    """Return fluctuation and flux of bands in dB, `(n_clips, n_frames, k)` to `(n_clips, 2 * k)`.

    They are ln(std + 0.1) over time of the bands and of the differences of neighbouring frames.
    Of one or two frames, whose differences say nothing, the fluctuation stands for the flux.
    """
    fluctuation = _log_std(x)
    flux = _log_std(x[:, 1:] - x[:, :-1]) if x.shape[1] > 2 else fluctuation
    return array_namespace(x).concat([fluctuation, flux], axis=1)


def _log_std(x: Array) -> Array:
    xp = array_namespace(x)
    deviation = xp.std(xp.astype(x, xp.float64), axis=1)
    return xp.astype(xp.log(deviation + 0.1), x.dtype)
