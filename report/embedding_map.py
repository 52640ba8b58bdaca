"""Embeddings as points on a plane: PCA, or UMAP through its extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

POINTS_AT_MOST = 1500
SIDE = 600.0
"""Of the drawing, in its units."""
MARGIN = 12.0


@dataclass(frozen=True, eq=False)
class EmbeddingMap:
    """Clips as points (n, 2) in a square of `SIDE`, y downwards."""

    keys: Sequence[str]
    points: Array
    across: str
    up: str
    about: str
    """How the points were placed, in words."""


def embedding_map(
    keys: Sequence[str], vectors: Array, method: Literal["pca", "umap"] = "pca", of: str = ""
) -> EmbeddingMap:
    """Place clips by their vectors (n, ...): of frames (n, n_frames, dim) by the mean over time.

    Each number is brought to deviation 1 first. `of` names what the vectors are. ValueError for
    fewer than 3 clips, ImportError where UMAP is not installed.
    """
    if len(keys) < 3:
        raise ValueError("a map needs 3 clips or more")
    flat = np.nanmean(vectors, axis=1) if vectors.ndim == 3 else vectors.reshape(len(vectors), -1)
    flat = np.asarray(flat, dtype=np.float64)
    flat = (flat - flat.mean(axis=0)) / (flat.std(axis=0) + 1e-9)
    if method == "umap":
        points, across, up = _umap(flat), "UMAP 1", "UMAP 2"
        about = "by UMAP (McInnes et al. 2018), which keeps neighbours together, not distances"
    else:
        points, shares = _pca(flat)
        across, up = (f"component {i + 1}, {share:.0%}" for i, share in enumerate(shares))
        about = "by their two principal components, with the shares of the variance at the axes"
    low, high = points.min(axis=0), points.max(axis=0)
    placed = (points - low) / np.where(high > low, high - low, 1.0)
    placed[:, 1] = 1 - placed[:, 1]
    placed = MARGIN + (SIDE - 2 * MARGIN) * placed
    return EmbeddingMap(keys, placed.round(1), across, up, f"{of} placed {about}".strip())


def _pca(flat: Array) -> tuple[Array, list[float]]:
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=0)
    points: Array = pca.fit_transform(flat)
    return points, pca.explained_variance_ratio_.tolist()


def _umap(flat: Array) -> Array:
    try:
        from umap import UMAP
    except ImportError:
        raise ImportError("a map by UMAP needs umap-learn: pip install '.[umap]'") from None
    neighbours = min(15, len(flat) - 1)
    points: Array = UMAP(n_neighbors=neighbours, random_state=0, n_jobs=1).fit_transform(flat)
    return points
