"""Which features of a clip, and which members of a fusion, made its anomaly score."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def reconstruction_errors(x: ArrayLike, rebuilt: ArrayLike) -> Array:
    """Divide the mean squared error of an autoencoder among its numbers, in the shape of x.

    For a clip's vector (dim,) these are contributions; for its frames (n_frames, dim), which are
    NaN after the clip's end in both, a map over time and frequency.
    """
    errors = np.square(np.asarray(rebuilt, dtype=np.float64) - np.asarray(x, dtype=np.float64))
    return errors / np.count_nonzero(np.isfinite(errors))  # type: ignore[no-any-return]


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


def over_bands(
    contributions: ArrayLike,
    low_hz: ArrayLike,
    high_hz: ArrayLike,
    bands_low_hz: ArrayLike,
    bands_high_hz: ArrayLike,
) -> Array:
    """Spread the contributions of features (dim,) over the bands of a profile: (n_bands,).

    A feature reaches from `low_hz` to `high_hz` and gives each band the share that lies in it.
    Features without a frequency (NaN edges) and what lies beside all bands are left out.
    """
    values = np.asarray(contributions, dtype=np.float64)
    low, high = np.asarray(low_hz, dtype=np.float64), np.asarray(high_hz, dtype=np.float64)
    has_band = np.isfinite(low)
    values, low, high = values[has_band], low[has_band, None], high[has_band, None]
    overlap = np.minimum(high, bands_high_hz) - np.maximum(low, bands_low_hz)
    share = np.maximum(overlap, 0.0) / (high - low)  # (n_features, n_bands)
    return values @ share  # type: ignore[no-any-return]
