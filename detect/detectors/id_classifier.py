"""Detectors that learn to tell the machine IDs of a type apart, and rate a clip as its own ID.

A clip that does not sound like its own machine is anomalous. They need two or more IDs, and the ID
of each test clip, which is not a label: it says which machine was recorded. The idea is that of the
classifiers of DCASE 2020 Task 2, such as Giri et al., "Self-supervised classification for
detecting anomalous sounds" (DCASE 2020).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from detect.detector import NetworkDetector, rate_as_own_id
from detect.detectors.autoencoder import seed_of
from detect.detectors.mahalanobis import Array, Mahalanobis
from detect.detectors.training import Epoch, seeded, train
from ground.options import Count, Positive

HIDDEN = 128


class IDClassifier(NetworkDetector, BaseEstimator):  # type: ignore[misc]
    """Negative log-probability of the own machine ID, or Mahalanobis distance in feature space.

    `network` is "logistic" (regression; its features are the logits) or "mlp" (one hidden layer
    of 128, its activations are the features). `rate_by` is "probability" or "mahalanobis" (from
    the own ID's mean, one covariance per ID). Without `ids`, a clip is rated as the ID that
    suits it best.
    """

    needs_ids: ClassVar[bool] = True

    def __init__(
        self,
        network: Literal["logistic", "mlp"] = "logistic",
        *,
        rate_by: Literal["probability", "mahalanobis"] = "probability",
        epochs: Count = 500,
        learning_rate: Positive = 1e-3,
        random_state: int | None = 0,
        device: str = "",
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        self.network = network
        self.rate_by = rate_by
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.device = device
        self.on_epoch = on_epoch

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> Self:
        """Learn from normal clips X (n, dim) of the machine IDs y (n,)."""
        self.check_options()
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None: the machine IDs")
        X, y = validate_data(self, X, y, dtype=np.float64)
        self.classes_, class_numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "telling machine IDs apart needs two or more of a type, but there is only one "
                f"class, {self.classes_[0]}; use a detector that does not need IDs"
            )
        if self.network == "logistic":
            self.model_: Any = LogisticRegression(max_iter=1000).fit(X, class_numbers)
        else:
            self._train(X, class_numbers)
        if self.rate_by == "mahalanobis":
            features = self._features(X)
            self.distances_ = [
                Mahalanobis().fit(features[class_numbers == i]) for i in range(len(self.classes_))
            ]
        return self

    def score_samples(self, X: NDArray[Any], ids: NDArray[Any] | None = None) -> Array:
        """Rate each row as a clip of the machine `ids` names; higher means more normal."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return rate_as_own_id(self._scores_by_id(X), self.classes_, ids)

    def blank_networks(self) -> dict[str, nn.Module]:
        """Build untrained networks of the fitted shape, by attribute."""
        hidden = [nn.Linear(self.n_features_in_, HIDDEN), nn.ReLU(), nn.Dropout(0.2)]
        return {"model_": nn.Sequential(*hidden, nn.Linear(HIDDEN, len(self.classes_)))}

    def _scores_by_id(self, X: Array) -> Array:
        """Rate each row as a clip of each machine ID; (n, n_ids)."""
        if self.rate_by == "mahalanobis":
            features = self._features(X)
            return np.stack(
                [distance.score_samples(features) for distance in self.distances_], axis=1
            )
        if self.network == "logistic":
            logits = self._features(X)
            if logits.shape[1] == 1:  # of two IDs, scikit-learn gives the second one's
                logits = np.column_stack([np.zeros(len(X)), logits])
            return log_softmax(logits, axis=1)  # type: ignore[no-any-return]
        with torch.no_grad():
            return torch.log_softmax(self._double()(torch.tensor(X)), dim=1).numpy()

    def _features(self, X: Array) -> Array:
        if self.network == "logistic":
            logits = self.model_.decision_function(X)
            return logits[:, None] if logits.ndim == 1 else logits  # type: ignore[no-any-return]
        with torch.no_grad():
            return self._double()[:2](torch.tensor(X)).numpy()  # type: ignore[no-any-return]

    def _train(self, X: Array, class_numbers: NDArray[np.int64]) -> None:
        seed = seed_of(self.random_state)
        rows = torch.tensor(np.column_stack([X, class_numbers]), dtype=torch.float32)
        with seeded(seed):
            self.model_ = self.blank_networks()["model_"]
            self.history_ = train(
                self.model_,
                rows,
                _cross_entropy,
                seed=seed,
                epochs=self.epochs,
                learning_rate=self.learning_rate,
                device=self.device,
                on_epoch=self.on_epoch,
            )

    def _double(self) -> nn.Sequential:
        return copy.deepcopy(self.model_).double().eval()  # type: ignore[no-any-return]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = True
        return tags


def _cross_entropy(network: nn.Module, rows: Tensor) -> Tensor:
    """Cross-entropy of smoothed labels, so that probabilities do not saturate."""
    return nn.functional.cross_entropy(
        network(rows[:, :-1]), rows[:, -1].long(), label_smoothing=0.1
    )
