"""Layers of the autoencoders over one vector per clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from ground.options import Count

Widths = Annotated[tuple[Count, ...], MinLen(1)]
"""Widths of layers, one or more."""


class MLP(nn.Sequential):
    """Dense autoencoder: dim -> hidden... and back, ReLU between, linear at the end."""

    def __init__(self, dim: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        widths = [dim, *hidden, *reversed(hidden[:-1]), dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        super().__init__(*layers[:-2])


class UNet(nn.Module):
    """Dense autoencoder whose decoder also sees the encoder's activations.

    For hidden (1024, 512) and bottleneck 128: dim -> 1024 -> 512 -> 128 -> 512, beside it the
    encoder's 512 and 1024, then one linear layer from these 2048 back to dim.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int], bottleneck: int, dropout: float = 0.2
    ) -> None:
        super().__init__()
        down = [dim, *hidden, bottleneck]
        self.down = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(down))
        self.dropout = nn.Dropout(dropout)
        rising = list(reversed(hidden[1:] if len(hidden) > 1 else hidden))
        # each step up reads the step below and the encoder's activation of that step's width
        inputs = [bottleneck, *(2 * width for width in rising[:-1])]
        self.up = nn.ModuleList(nn.Linear(a, b) for a, b in zip(inputs, rising, strict=True))
        last = 2 * rising[-1] + (hidden[0] if len(hidden) > 1 else 0)
        self.out = nn.Linear(last, dim)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.down:
            x = self.dropout(torch.relu(layer(x)))
            skips.append(x)
        skips.pop()  # the bottleneck is no skip
        for layer in self.up:
            x = torch.cat([torch.relu(layer(x)), skips.pop()], dim=-1)
        return self.out(torch.cat([x, *skips], dim=-1))  # type: ignore[no-any-return]


def mlp(dim: int) -> MLP:
    """Build the MLP of the reports for vectors of this width."""
    if dim == 768:
        return MLP(dim, (256,))
    if dim == 2048:
        return MLP(dim, (1024, 512, 256), dropout=0.2)
    return MLP(dim, (max(1, dim // 2), max(1, dim // 4)))


def unet(dim: int) -> UNet:
    """Build the UNet of the reports for vectors of this width."""
    if dim == 768:
        return UNet(dim, (1024, 512), bottleneck=128)
    if dim == 2048:
        return UNet(dim, (1024, 512, 256), bottleneck=128)
    return UNet(dim, (2 * dim, dim), bottleneck=max(1, dim // 4))


class VAE(nn.Module):
    """Dense variational autoencoder: dim -> hidden... -> latent, mirrored, linear at the end.

    Returns the reconstruction, and mean and log-variance of the latent numbers; these are drawn
    while training and are their mean otherwise. `batchnorm` stands after each hidden linear
    layer and after the output.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int], latent: int, batchnorm: bool = False
    ) -> None:
        super().__init__()
        self.down = nn.Sequential(*_dense([dim, *hidden], batchnorm))
        self.mean = nn.Linear(hidden[-1], latent)
        self.log_variance = nn.Linear(hidden[-1], latent)
        self.up = nn.Sequential(
            *_dense([latent, *reversed(hidden)], batchnorm),
            nn.Linear(hidden[0], dim),
            *([nn.BatchNorm1d(dim)] if batchnorm else []),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        within = self.down(x)
        mean, log_variance = self.mean(within), self.log_variance(within)
        return self.up(drawn(mean, log_variance, self.training)), mean, log_variance


def _dense(widths: Sequence[int], batchnorm: bool) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after)]
        layers += [nn.BatchNorm1d(after)] if batchnorm else []
        layers += [nn.ReLU()]
    return layers


def drawn(mean: Tensor, log_variance: Tensor, training: bool) -> Tensor:
    """Draw latent numbers while training, and return their mean otherwise."""
    if not training:
        return mean
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence from the standard normal distribution, in nats per row."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1)
