"""Shared by all detectors of sequences: frames in, one network, one score per clip.

Sequences are (n_clips, n_frames, dim) float32 with NaN after a clip's end. A detector is a
dataclass whose fields are its options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from detect.detector import NetworkDetector, Takes
from detect.detectors.autoencoder import seed_of
from detect.detectors.training import Epoch, Examples, seeded, train
from detect.scaler import LEAST_SHARE_OF_MEDIAN
from ground.options import Count, Positive

Sequences = NDArray[np.float32]

MAX_GRADIENT = 5.0
CHECKED_AT_ONCE = 64
CLIPS_REBUILT = 50
"""Training clips that the error of normal clips is measured on; more change it little."""


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceDetector(NetworkDetector, BaseEstimator, ABC):  # type: ignore[misc]
    """Trains a network on sequences of normal clips and rates a clip by what it gets wrong.

    Clips are scored one by one, cut to their own length, so that a score cannot depend on the
    clips beside it. Those that do not want a scaler in front of them (`wants_scaling`) bring each
    feature to 0..1 by the training normals.
    """

    epochs: Count = 30
    batch_size: Count = 32
    learning_rate: Positive = 1e-3
    patience: Count = 20
    random_state: int | None = 0
    device: str = ""
    on_epoch: Callable[[Epoch], None] | None = None

    takes: ClassVar[Takes] = "sequences"
    wants_scaling: ClassVar[bool] = True
    reconstructs: ClassVar[bool] = True

    def fit(self, X: Sequences, y: object = None) -> Self:
        """Train on normal clips X (n_clips, n_frames, dim); a tenth decides when to stop."""
        self.check_options()
        X = _checked(X)
        if len(X) < 2:
            raise ValueError(
                f"{type(self).__name__} needs 2 training clips, one of them held out; got {len(X)}"
            )
        self._learn_shape(X)
        some = X[:: -(-len(X) // CLIPS_REBUILT)]
        X = self._chosen(X)
        if not self.wants_scaling:
            self.low_, self.range_ = _low_and_range(X)
        clips = torch.from_numpy(self._scaled(X))
        self.clip_shape_ = tuple(clips.shape[1:])
        seed = seed_of(self.random_state)
        with seeded(seed):
            self._train(clips, seed)
        errors = self.squared_errors(some)
        self.normal_error_ = np.nanmean(errors, axis=(0, 1), dtype=np.float64)
        return self

    def blank_networks(self) -> dict[str, nn.Module]:
        """Build untrained networks of the fitted shape, by attribute."""
        return {"network_": self._network(torch.empty(1, *self.clip_shape_))}

    def score_samples(self, X: Sequences) -> NDArray[np.float64]:
        """Rate each clip; higher means more normal."""
        X = self._checked(X)
        with seeded(0), torch.no_grad():
            return np.array([-self._anomaly(clip) for clip in self._clips(X)])

    def reconstruct(self, X: Sequences) -> Sequences:
        """Rebuild each clip, (n_clips, n_frames, dim); NaN where the network does not look."""
        X = self._checked(X)
        rebuilt = np.full_like(X, np.nan)
        first = self._first_frames(lengths(X))
        with seeded(0), torch.no_grad():
            for row, start, clip in zip(rebuilt, first.tolist(), self._clips(X), strict=True):
                row[start : start + len(clip)] = self._rebuild(clip).numpy()
        return rebuilt if self.wants_scaling else rebuilt * self.range_ + self.low_

    def squared_errors(self, X: Sequences) -> Sequences:
        """Square what is rebuilt wrongly, in the units of the score: (n_clips, n_frames, dim)."""
        errors = self.reconstruct(X) - np.asarray(X, dtype=np.float32)
        return np.square(errors if self.wants_scaling else errors / self.range_)

    def _checked(self, X: Sequences) -> Sequences:
        """Refuse sequences that are not whole, or not as those that were fitted."""
        check_is_fitted(self)
        X = _checked(X)
        if X.shape[2] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[2]} features per frame, but {self.n_features_in_} were fitted"
            )
        return X

    def _learn_shape(self, X: Sequences) -> None:
        self.n_features_in_ = X.shape[2]

    def _chosen(self, X: Sequences) -> Sequences:
        """Choose the frames of clips (n_clips, n_frames, dim) that the network sees."""
        return X

    def _first_frames(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Say where the chosen frames of clips begin that have so many frames, (n_clips,)."""
        return np.zeros_like(ends)

    def _train(self, clips: Tensor, seed: int) -> None:
        """Build and train `network_` on clips (n_clips, n_frames, dim)."""
        self.network_ = self._network(clips)
        self._fit_network(self.network_, clips, seed)

    def _fit_network(self, network: nn.Module, clips: Tensor, seed: int) -> None:
        self.history_ = train(
            network,
            clips,
            self._loss,
            seed=seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            patience=self.patience,
            max_gradient=MAX_GRADIENT,
            examples=self._examples,
            device=self.device,
            on_epoch=self.on_epoch,
        )

    @abstractmethod
    def _network(self, clips: Tensor) -> nn.Module:
        """Build a fresh network for such clips."""

    def _examples(self, clips: Tensor) -> Examples:
        """Say what batches are drawn from."""
        return clips

    @abstractmethod
    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        """Mean loss of a batch of examples."""

    @abstractmethod
    def _anomaly(self, clip: Tensor) -> float:
        """Rate one clip (n_frames, dim); higher means more anomalous."""

    @abstractmethod
    def _rebuild(self, clip: Tensor) -> Tensor:
        """Rebuild one clip (n_frames, dim), as the network sees it; NaN where it does not look."""

    def _scaled(self, X: Sequences) -> Sequences:
        if self.wants_scaling:
            return X
        scaled = X - self.low_
        scaled /= self.range_
        return scaled

    def _clips(self, X: Sequences) -> Iterator[Tensor]:
        for clip, n_frames in zip(X, lengths(X), strict=True):
            yield torch.from_numpy(self._scaled(self._chosen(clip[None, :n_frames])[0]))


def joined_windows(windows: Tensor) -> Tensor:
    """Average windows (n_windows, length, dim) that begin one frame apart: (n_frames, dim)."""
    n_windows, length, dim = windows.shape
    total = windows.new_zeros(n_windows + length - 1, dim)
    count = windows.new_zeros(len(total), 1)
    for i in range(length):
        total[i : i + n_windows] += windows[:, i]
        count[i : i + n_windows] += 1
    return total / count


def lengths(X: Sequences) -> NDArray[np.int64]:
    """Count each clip's frames before its NaN."""
    return np.sum(~np.isnan(X[:, :, 0]), axis=1)  # type: ignore[no-any-return]


def _checked(X: Sequences) -> Sequences:
    """Refuse anything but sequences that are whole up to their end."""
    X = np.ascontiguousarray(X, dtype=np.float32)
    if X.ndim != 3:
        raise ValueError(
            f"Sequences are (n_clips, n_frames, dim), got an array of shape {X.shape}; "
            "pool with frames"
        )
    ends = lengths(X)
    for first in range(0, len(X), CHECKED_AT_ONCE):  # a mask of all of X would be large
        part = slice(first, first + CHECKED_AT_ONCE)
        inside = np.arange(X.shape[1]) < ends[part, None]
        bad = (np.isfinite(X[part]).all(axis=2) != inside).any(axis=1) | (ends[part] == 0)
        if bad.any():
            raise ValueError(
                f"Clip {first + int(bad.argmax())} of {len(X)} is empty, or has NaN or infinite "
                "values before its end"
            )
    return X


def _low_and_range(X: Sequences) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Minimum and range of each feature; one that hardly moves gets the median range."""
    low, high = np.nanmin(X, axis=(0, 1)), np.nanmax(X, axis=(0, 1))
    spread = high - low
    median = np.median(spread)
    spread[spread < LEAST_SHARE_OF_MEDIAN * median] = median
    spread[spread == 0] = 1.0
    return low, spread
