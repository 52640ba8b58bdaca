"""Detectors that rebuild a few neighbouring frames at a time; a clip's score is the mean.

OfficialAE: the baselines of DCASE Task 2, Koizumi et al., "Description and discussion on DCASE
2020 challenge task 2" (DCASE 2020), and its Mahalanobis mode, Harada et al., "First-shot anomaly
detection for machine condition monitoring" (EUSIPCO 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from detect.detectors.networks import VAE, Widths, divergence
from detect.detectors.sequences import SequenceDetector, joined_windows
from detect.detectors.training import Examples, Windows, all_windows
from ground.options import Count, NotNegative

RIDGE = 1e-3  # share of the mean variance added to the residuals' covariance
WINDOWS_PER_PART = 4096


@dataclass(kw_only=True, eq=False, repr=False)
class StackedFrames(SequenceDetector):
    """Mean squared error of a network that rebuilds `frames` neighbouring frames as one vector."""

    frames: Count = 5

    def _examples(self, clips: Tensor) -> Examples:
        return Windows(clips, self.frames)

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        stacks = batch.flatten(1)
        return nn.functional.mse_loss(network(stacks), stacks)

    def _anomaly(self, clip: Tensor) -> float:
        return self._residuals(clip).square().mean().item()

    def _residuals(self, clip: Tensor) -> Tensor:
        """Return each stack minus its reconstruction; (n_stacks, frames * dim)."""
        stacks = all_windows(clip, self.frames).flatten(1)
        return stacks - self._rebuilt(stacks)

    def _rebuild(self, clip: Tensor) -> Tensor:
        windows = all_windows(clip, self.frames)
        return joined_windows(self._rebuilt(windows.flatten(1)).view(windows.shape))

    def _rebuilt(self, stacks: Tensor) -> Tensor:
        return self.network_(stacks)  # type: ignore[no-any-return]


@dataclass(kw_only=True, eq=False, repr=False)
class OfficialAE(StackedFrames):
    """The baseline of DCASE: dense, 128 x 4, a bottleneck of 8, 128 x 4, BatchNorm and ReLU.

    `rate_by` is "mse", "mahalanobis" (mean over the stacks of their residuals' squared distance
    under the covariance of the training normals' residuals) or "mahalanobis_of_mean" (distance
    of the clip's mean residual, as the official code takes it).
    """

    epochs: Count = 100
    batch_size: Count = 512
    hidden: Widths = (128, 128, 128, 128)
    bottleneck: Count = 8
    rate_by: Literal["mse", "mahalanobis", "mahalanobis_of_mean"] = "mse"

    def _network(self, clips: Tensor) -> nn.Module:
        dim = self.frames * clips.shape[2]
        layers: list[nn.Module] = []
        for before, after in pairwise([dim, *self.hidden, self.bottleneck, *self.hidden[::-1]]):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(self.hidden[0], dim))

    def _train(self, clips: Tensor, seed: int) -> None:
        super()._train(clips, seed)
        if self.rate_by != "mse":
            self.factor_ = self._residual_factor(clips)

    @torch.no_grad()
    def _residual_factor(self, clips: Tensor) -> Tensor:
        """Cholesky factor of the residuals' covariance, summed a part at a time."""
        stacks = Windows(clips, self.frames)
        dim = self.frames * clips.shape[2]
        total = torch.zeros(dim, dtype=torch.float64)
        products = torch.zeros(dim, dim, dtype=torch.float64)
        for rows in torch.split(torch.arange(len(stacks)), WINDOWS_PER_PART):
            part = stacks[rows].flatten(1)
            residuals = (part - self._rebuilt(part)).double()
            total += residuals.sum(dim=0)
            products += residuals.T @ residuals
        mean = total / len(stacks)
        covariance = products / len(stacks) - torch.outer(mean, mean)
        ridge = RIDGE * covariance.diagonal().mean() + torch.finfo(torch.float64).tiny
        return torch.linalg.cholesky(covariance + ridge * torch.eye(dim, dtype=torch.float64))  # type: ignore[no-any-return]

    def _anomaly(self, clip: Tensor) -> float:
        if self.rate_by == "mse":
            return super()._anomaly(clip)
        residuals = self._residuals(clip).double()
        if self.rate_by == "mahalanobis_of_mean":
            residuals = residuals.mean(dim=0, keepdim=True)
        whitened = torch.linalg.solve_triangular(self.factor_, residuals.T, upper=False)
        return whitened.square().sum(dim=0).mean().item()  # type: ignore[no-any-return]


@dataclass(kw_only=True, eq=False, repr=False)
class FramesVAE(StackedFrames):
    """Mean squared error of a variational autoencoder; the latent mean stands for the draw.

    The loss is the negative ELBO of a unit-variance Gaussian decoder, twice and per number:
    mean squared error + 2 beta KL / dim.
    """

    batch_size: Count = 512
    hidden: Widths = (400, 400)
    latent: Count = 20
    beta: NotNegative = 1.0
    batchnorm: bool = False

    def _network(self, clips: Tensor) -> nn.Module:
        return VAE(self.frames * clips.shape[2], self.hidden, self.latent, self.batchnorm)

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return negative_elbo(network, batch.flatten(1), self.beta)

    def _rebuilt(self, stacks: Tensor) -> Tensor:
        return self.network_(stacks)[0]  # type: ignore[no-any-return]


def negative_elbo(network: nn.Module, batch: Tensor, beta: float) -> Tensor:
    """Mean squared error + 2 beta KL / dim, for a network that returns a VAE's three outputs."""
    rebuilt, mean, log_variance = network(batch)
    kl = divergence(mean, log_variance).mean() / batch[0].numel()
    return nn.functional.mse_loss(rebuilt, batch) + 2 * beta * kl
