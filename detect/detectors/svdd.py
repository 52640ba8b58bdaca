"""Convolutional autoencoder with a Deep SVDD objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from detect.detectors.image_autoencoders import ImageDetector, cropped, doubling, padded
from detect.detectors.networks import Widths
from detect.detectors.resnet_autoencoder import IMAGES_AT_ONCE
from ground.options import Count, Dropout, NotNegative

LEAST_CENTRE = 0.1
LEAST_SPREAD = 1e-3  # of what the latent numbers had before training


class CollapsedError(ValueError):
    """The network found the trivial solution: all clips look alike to it."""


@dataclass(kw_only=True, eq=False, repr=False)
class SVDDAutoencoder(ImageDetector):
    """Rebuilds images while the latent map is drawn to one centre, which keeps normal compact.

    Loss: mean squared error + `svdd` times the mean squared distance of the latent vectors from
    the centre (Ruff et al., "Deep one-class classification", ICML 2018) + `l2` times the sum of
    the squared parameters. The score is the reconstruction's mean squared error. Against the
    trivial solution: the centre is the mean of a first pass, moved away from zero; the encoder
    has no bias terms; and latent numbers or scores that no longer vary are a CollapsedError.
    """

    widths: Widths = (32, 64, 128, 256)
    dropout: tuple[Dropout, ...] = (0.0, 0.2, 0.3, 0.3)
    latent: Count = 40
    svdd: NotNegative = 0.1
    l2: NotNegative = 0.0
    skips: bool = False
    batchnorm: bool = False

    def _network(self, clips: Tensor) -> nn.Module:
        if len(self.widths) != len(self.dropout):
            raise ValueError(
                f"{len(self.widths)} widths need as many dropouts; got {len(self.dropout)}"
            )
        return SVDDNetwork(
            self.widths, self.dropout, self.latent, skips=self.skips, batchnorm=self.batchnorm
        )

    def _train(self, clips: Tensor, seed: int) -> None:
        network = self._network(clips)
        assert isinstance(network, SVDDNetwork)
        mean, before = latent_moments(network, clips)
        sign = torch.where(mean < 0, -1.0, 1.0)
        network.centre.copy_(torch.where(mean.abs() < LEAST_CENTRE, sign * LEAST_CENTRE, mean))
        self._fit_network(network, clips, seed)
        self.network_ = network
        after = latent_moments(network, clips)[1]
        with torch.no_grad():
            scores = np.array([self._anomaly(clip) for clip in clips])
        check_collapse(before, after, scores)

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        assert isinstance(network, SVDDNetwork)
        rebuilt, latent = network.both(batch)
        away = latent - network.centre[:, None, None]
        loss = nn.functional.mse_loss(rebuilt, batch)
        loss = loss + self.svdd * away.square().sum(dim=1).mean()
        if self.l2:
            loss = loss + self.l2 * sum(p.square().sum() for p in network.parameters())
        return loss


class SVDDNetwork(nn.Module):
    """Stride-2 convolutions, a 1x1 convolution to the latent map, and the mirror image.

    `skips` adds the encoder's maps to the decoder's of the same size.
    """

    centre: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        dropout: Sequence[float],
        latent: int,
        *,
        skips: bool,
        batchnorm: bool,
    ) -> None:
        super().__init__()
        self.stride = 2 ** len(widths)
        self.skips = skips
        self.register_buffer("centre", torch.zeros(latent))

        def norm(width: int) -> list[nn.Module]:
            return [nn.BatchNorm2d(width, affine=False)] if batchnorm else []

        def down(before: int, after: int, rate: float) -> nn.Module:
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            return nn.Sequential(conv, *norm(after), nn.LeakyReLU(0.1), nn.Dropout(rate))

        def up(before: int, after: int) -> nn.Module:
            return nn.Sequential(doubling(before, after), *norm(after), nn.LeakyReLU(0.1))

        steps = list(zip(pairwise([1, *widths]), dropout, strict=True))
        self.down = nn.ModuleList(down(a, b, rate) for (a, b), rate in steps)
        self.to_latent = nn.Conv2d(widths[-1], latent, 1, bias=False)
        self.from_latent = nn.Conv2d(latent, widths[-1], 1)
        self.up = nn.ModuleList(up(a, b) for a, b in pairwise(widths[::-1]))
        self.out = doubling(widths[0], 1)

    def both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction, and the latent map (n, latent, height, width)."""
        x = padded(images, self.stride)
        maps = []
        for step in self.down:
            x = step(x)
            maps.append(x)
        latent = self.to_latent(x)
        x = nn.functional.leaky_relu(self.from_latent(latent), 0.1)
        maps.pop()  # the last map leads to the latent map and is not skipped
        for step in self.up:
            x = step(x)
            if self.skips:
                x = x + maps.pop()
        return cropped(self.out(x), images), latent

    def forward(self, images: Tensor) -> Tensor:
        return self.both(images)[0]


@torch.no_grad()
def latent_moments(network: SVDDNetwork, clips: Tensor) -> tuple[Tensor, float]:
    """Mean of each latent number over clips and positions, and their mean deviation."""
    network.eval()
    total = torch.zeros_like(network.centre, dtype=torch.float64)
    squares, n = total.clone(), 0
    for images in torch.split(clips, IMAGES_AT_ONCE):
        latent = network.both(images)[1].double()
        total += latent.sum(dim=(0, 2, 3))
        squares += latent.square().sum(dim=(0, 2, 3))
        n += latent[:, 0].numel()
    mean = total / n
    deviation = (squares / n - mean.square()).clamp(min=0).sqrt().mean().item()
    return mean.float(), deviation


def check_collapse(before: float, after: float, scores: np.ndarray) -> None:
    """Raise CollapsedError where latent numbers, or the training clips' scores, stopped varying."""
    if after < LEAST_SPREAD * before:
        raise CollapsedError(
            f"The encoder maps every clip to one point: its latent numbers deviate by {after:.2g}, "
            f"{before:.2g} before training; lower svdd or l2, or train for fewer epochs"
        )
    if scores.std() <= 1e-9 * abs(scores.mean()):
        raise CollapsedError(
            f"Every training clip gets the score {scores.mean():.3g}; "
            "lower svdd or l2, or look whether the clips differ at all"
        )
