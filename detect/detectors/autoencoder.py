"""Detectors that rebuild a clip's vector and rate it by what they get wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from detect.detector import NetworkDetector
from detect.detectors import networks
from detect.detectors.training import Epoch, seeded, train
from ground.options import Count, Positive

NETWORKS: dict[str, Callable[[int], nn.Module]] = {"mlp": networks.mlp, "unet": networks.unet}
SCORED_AT_ONCE = 1024


def reconstruction_error(network: nn.Module, batch: Tensor) -> Tensor:
    """Mean squared error of a batch."""
    return nn.functional.mse_loss(network(batch), batch)


class Autoencoder(NetworkDetector, BaseEstimator):  # type: ignore[misc]
    """Mean squared error of a dense network that learned to rebuild normal clips.

    `network` is "mlp" or "unet" (widths of the reports, by the vectors' width) or a function
    from width to a torch module. Trains in float32 and scores in float64, so that a clip's score
    does not depend on the clips scored beside it.
    """

    reconstructs: ClassVar[bool] = True

    def __init__(
        self,
        network: str | Callable[[int], nn.Module] = "mlp",
        *,
        epochs: Count = 500,
        batch_size: Count = 32,
        learning_rate: Positive = 1e-3,
        patience: Count = 20,
        random_state: int | None = 0,
        device: str = "",
        on_epoch: Callable[[Epoch], None] | None = None,
    ) -> None:
        self.network = network
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.patience = patience
        self.random_state = random_state
        self.device = device
        self.on_epoch = on_epoch

    def fit(self, X: NDArray[Any], y: object = None) -> Self:
        """Train on normal clips X (n_clips, dim); a tenth of them decides when to stop."""
        self.check_options()
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        seed = seed_of(self.random_state)
        clips = torch.tensor(X, dtype=torch.float32)
        with seeded(seed):
            self.network_ = build_network(self.network, X.shape[1])
            self.history_ = train(
                self.network_,
                clips,
                reconstruction_error,
                seed=seed,
                epochs=self.epochs,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                patience=self.patience,
                device=self.device,
                on_epoch=self.on_epoch,
            )
        self.normal_error_ = self.squared_errors(X).mean(axis=0)
        return self

    def blank_networks(self) -> dict[str, nn.Module]:
        """Build untrained networks of the fitted shape, by attribute."""
        return {"network_": build_network(self.network, self.n_features_in_)}

    def reconstruct(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Rebuild each row; (n_clips, dim)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        network = copy.deepcopy(self.network_).double().eval()
        with torch.no_grad():
            parts = [network(torch.tensor(part)) for part in _parts(X)]
        return torch.cat(parts).numpy()

    def squared_errors(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Square what is rebuilt wrongly; (n_clips, dim)."""
        rebuilt = self.reconstruct(X)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.square(rebuilt - X)  # type: ignore[no-any-return]

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Rate each row; higher means more normal."""
        return -np.mean(self.squared_errors(X), axis=1)  # type: ignore[no-any-return]


def build_network(network: str | Callable[[int], nn.Module], dim: int) -> nn.Module:
    """Make a fresh network for vectors of this width."""
    if callable(network):
        return network(dim)
    if network not in NETWORKS:
        raise ValueError(f"There is no network {network!r}; it is one of {', '.join(NETWORKS)}")
    return NETWORKS[network](dim)


def seed_of(random_state: int | np.random.RandomState | None) -> int:
    """Turn scikit-learn's random_state into torch's seed."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))


def _parts(X: NDArray[Any]) -> list[NDArray[Any]]:
    return [X[i : i + SCORED_AT_ONCE] for i in range(0, len(X), SCORED_AT_ONCE)]
