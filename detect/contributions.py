"""Which features of a clip, and which members of a fusion, made its anomaly score."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def contributions(score: Callable[[Array], Array], x: ArrayLike, normal: ArrayLike) -> Array:
    """Divide a clip's anomaly score among its features: (dim,) for x (dim,).

    `score` rates vectors (n, dim), higher is more anomalous; `normal` (dim,) is the mean of the
    training clips' vectors. A feature's contribution is the mean of two changes of the score: when
    the feature alone is moved from normal to its value in the clip, and when it alone is put back
    to normal. For a squared Mahalanobis distance d(x) = x'Px (x taken from the normal mean) that
    is exactly x_j (Px)_j. These are the Shapley values of d, and they add up to it; a feature
    that makes the others more plausible has a negative one. For other detectors the sum is only
    near the score's rise. 2 * dim + 2 vectors are rated.
    """
    clip = np.asarray(x, dtype=np.float64)
    mean = np.asarray(normal, dtype=np.float64)
    if clip.ndim != 1 or clip.shape != mean.shape:
        raise ValueError(f"x and normal are vectors (dim,), got {clip.shape} and {mean.shape}")
    dim = len(clip)
    moved = np.tile(mean, (dim, 1))
    put_back = np.tile(clip, (dim, 1))
    np.fill_diagonal(moved, clip)
    np.fill_diagonal(put_back, mean)
    scores = np.asarray(score(np.concatenate([moved, put_back, [mean], [clip]])), dtype=np.float64)
    first = scores[:dim] - scores[-2]
    last = scores[-1] - scores[dim:-2]
    return (first + last) / 2  # type: ignore[no-any-return]


def nearest_clip(x: ArrayLike, clips: ArrayLike) -> tuple[int, Array]:
    """Find the normal clip nearest to x (dim,): its row in clips (n, dim), squared differences.

    Both are scaled as the detector sees them. The differences (dim,) add up to the squared
    Euclidean distance, and so are the contributions for a detector of nearest neighbours.
    """
    squares = np.square(np.asarray(clips, dtype=np.float64) - np.asarray(x, dtype=np.float64))
    row = int(squares.sum(axis=1).argmin())
    return row, squares[row]


def member_shares(z: Mapping[str, float]) -> dict[str, float]:
    """Divide a fusion's score among its members: the positive z-scores, in shares of their sum.

    Without a positive one no member finds the clip unusual, and all shares are 0.
    """
    raised = {name: max(0.0, float(value)) for name, value in z.items()}
    total = sum(raised.values())
    return {name: value / total if total else 0.0 for name, value in raised.items()}


@dataclass(frozen=True, eq=False)
class MemberContributions:
    """One member's contributions (dim,), the bands that they are about, its share of the score."""

    share: float
    values: ArrayLike
    low_hz: ArrayLike
    """(dim,); NaN where a feature has no frequency."""
    high_hz: ArrayLike


def band_weights(
    members: Iterable[MemberContributions], bands_low_hz: ArrayLike, bands_high_hz: ArrayLike
) -> Array:
    """Add up over the members how much of the score comes from each band: (n_bands,).

    A feature's contribution is spread evenly from its `low_hz` to its `high_hz`; what lies beside
    all bands, and features without a frequency, are left out. Each member's contributions are
    divided by the sum of the positive ones and multiplied by its share.
    """
    low, high = np.asarray(bands_low_hz, np.float64), np.asarray(bands_high_hz, np.float64)
    weights = np.zeros(len(low))
    for member in members:
        values = np.asarray(member.values, dtype=np.float64)
        total = values[values > 0].sum()
        of_band = np.isfinite(np.asarray(member.low_hz, dtype=np.float64))
        if total == 0 or not of_band.any():
            continue
        first = np.asarray(member.low_hz, np.float64)[of_band, None]
        last = np.asarray(member.high_hz, np.float64)[of_band, None]
        overlap = np.minimum(last, high) - np.maximum(first, low)  # (n_features, n_bands)
        inside = np.maximum(overlap, 0.0) / (last - first)
        weights += member.share / total * (values[of_band] @ inside)
    return weights
