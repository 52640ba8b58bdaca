"""From frames to one vector per clip: named choices that every encoder shares.

A pooling reads one output of the encoder (`source`). Those over `frames` take
`(n_clips, n_frames, dim)` and return `(n_clips, dim')`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """One way to make an encoder's output an embedding."""

    source: ClassVar[str] = "frames"
    name: ClassVar[str]

    def __call__(self, x: Tensor) -> Tensor:
        return x


class Clip(Pooling):
    """The encoder's own vector."""

    name, source = "clip", "clip"


class Cls(Pooling):
    """The first token of a transformer."""

    name, source = "cls", "cls"


class Bands(Pooling):
    """`(n_clips, n_bands, dim)`: frequency kept, time pooled."""

    name, source = "bands", "bands"


class Frames(Pooling):
    """`(n_clips, n_frames, dim)`: time kept."""

    name = "frames"


class Mean(Pooling):
    """Mean over time."""

    name = "mean"

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


class Max(Pooling):
    """Maximum over time."""

    name = "max"

    def __call__(self, x: Tensor) -> Tensor:
        return x.amax(dim=1)


class MeanMax(Pooling):
    """Mean and maximum over time, `(n_clips, 2 * dim)`."""

    name = "mean_max"

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(dim=1), x.amax(dim=1)], dim=1)


@dataclass(frozen=True, kw_only=True)
class GWRP(Pooling):
    """Global weighted ranking pooling: frames sorted from high to low, weights r^k.

    r = 1 is the mean, r = 0 the maximum. Kolesnikov and Lampert, "Seed, expand and constrain",
    ECCV 2016; for anomalous sounds Guan et al., "Time-weighted frequency domain audio
    representation with GMM estimator", ICASSP 2023.
    """

    r: float = 0.7
    name = "gwrp"

    def __post_init__(self) -> None:
        if not 0 <= self.r <= 1:
            raise ValueError(f"gwrp.r is a decay between 0 and 1, got {self.r}")

    def __call__(self, x: Tensor) -> Tensor:
        ranked = x.sort(dim=1, descending=True).values
        rank = torch.arange(x.shape[1], device=x.device, dtype=torch.float64)
        weights = (self.r**rank).to(x.dtype)
        return torch.einsum("ntd,t->nd", ranked, weights / weights.sum())


@dataclass(frozen=True, kw_only=True)
class GeM(Pooling):
    """Generalized mean: (mean over time of x^p)^(1/p).

    p = 1 is the mean, p to infinity the maximum. Powers need non-negative values: a column with
    a negative minimum is shifted by it before and back after, which keeps both limits. Radenovic
    et al., "Fine-tuning CNN image retrieval with no human annotation", TPAMI 2019.
    """

    p: float = 6.0
    name = "gem"

    def __post_init__(self) -> None:
        if self.p < 1:
            raise ValueError(f"gem.p is a power of at least 1, got {self.p}")

    def __call__(self, x: Tensor) -> Tensor:
        shift = x.amin(dim=1, keepdim=True).clamp(max=0)
        positive = x - shift
        # relative to the maximum, so that no power leaves the range of float32
        peak = positive.amax(dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        mean = (positive / peak).pow(self.p).mean(dim=1)
        return mean.pow(1 / self.p) * peak.squeeze(1) + shift.squeeze(1)


@dataclass(frozen=True, kw_only=True)
class RDP(Pooling):
    """Relative deviation pooling: frames weighted by their distance from the clip's mean.

    The weight of a frame is (distance / mean distance)^gamma, normalised to sum one; gamma = 0
    is the mean, gamma to infinity the frame that deviates most. After Wilkinghoff, Yadav and Tan,
    "Temporal pooling strategies for training-free anomalous sound detection", 2026.
    """

    gamma: float = 10.0
    name = "rdp"

    def __call__(self, x: Tensor) -> Tensor:
        deviation = (x - x.mean(dim=1, keepdim=True)).norm(dim=2)
        # log-domain: a frame that equals the mean gets weight 0, a clip of equal frames its mean
        log_weight = self.gamma * deviation.clamp(min=1e-12).log()
        return torch.einsum("ntd,nt->nd", x, log_weight.softmax(dim=1))


class Quiet(Pooling):
    """Mean of the quietest quarter of the frames, per dimension (at least one frame)."""

    name = "quiet"

    def __call__(self, x: Tensor) -> Tensor:
        quarter = max(1, x.shape[1] // 4)
        return x.sort(dim=1).values[:, :quarter].mean(dim=1)


class Flatten(Pooling):
    """All frames one after the other, `(n_clips, n_frames * dim)`; clips must be equally long."""

    name = "flatten"

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Fluctuation(Pooling):
    """How loud each band is and how much it moves: level, fluctuation and flux.

    Takes log-mel in dB, `(n_clips, n_frames, n_mels)` with `n_mels` a multiple of 64, and returns
    `n_mels` numbers: *level* (half of them), neighbouring bands averaged in power, in dB, mean
    over time; *fluctuation* (a quarter), ln(std over time + 0.1) of groups of four bands averaged
    in dB; *flux* (a quarter), the same of their frame differences. See docs/default.md.
    """

    name = "fluctuation"

    def __call__(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        power = torch.pow(10.0, x / 10).view(n, t, d // 2, 2).mean(dim=3)
        level = (10 * power.log10()).mean(dim=1)
        bands = x.view(n, t, d // 4, 4).mean(dim=3)
        fluctuation = _log_std(bands)
        flux = _log_std(bands.diff(dim=1)) if t > 2 else fluctuation
        return torch.cat([level, fluctuation, flux], dim=1)


def _log_std(x: Tensor) -> Tensor:
    return (x.std(dim=1, correction=0) + 0.1).log()
