"""Detectors that take a clip's frames as one image and rebuild it.

Images are (n_frames, dim). Convolutional networks see them padded by their edge to a multiple of
their stride, and what they rebuild is cropped again.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from detect.detectors.networks import MLP, VAE, Widths, drawn
from detect.detectors.sequences import SequenceDetector, Sequences, lengths
from detect.detectors.stacked_frames import negative_elbo
from ground.options import Count, CountOrZero, NotNegative


@dataclass(kw_only=True, eq=False, repr=False)
class ImageDetector(SequenceDetector, ABC):
    """Mean squared error of a network that rebuilds one image per clip.

    The image is `n_frames` frames from the clip's "first" or around its "centre" (`start`); 0
    takes all frames, and then clips have to be equally long.
    """

    n_frames: CountOrZero = 0
    start: Literal["first", "centre"] = "first"

    def _learn_shape(self, X: Sequences) -> None:
        super()._learn_shape(X)
        self.n_frames_ = self.n_frames or int(lengths(X).max())

    def _chosen(self, X: Sequences) -> Sequences:
        wanted, ends = self.n_frames_, lengths(X)
        if ends.min() < wanted or (not self.n_frames and ends.max() > wanted):
            raise ValueError(
                f"{type(self).__name__} takes images of {wanted} frames, but a clip has "
                f"{ends.min() if ends.min() < wanted else ends.max()}; set n_frames to the "
                "shortest clip's or fewer"
            )
        if self.start == "first":
            return X[:, :wanted]
        first = self._first_frames(ends)
        return np.stack([clip[i : i + wanted] for clip, i in zip(X, first, strict=True)])

    def _first_frames(self, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros_like(ends) if self.start == "first" else (ends - self.n_frames_) // 2

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.mse_loss(network(batch), batch)

    def _anomaly(self, clip: Tensor) -> float:
        return (self._rebuild(clip) - clip).square().mean().item()

    def _rebuild(self, clip: Tensor) -> Tensor:
        return self._rebuilt(clip[None])[0]

    def _rebuilt(self, images: Tensor) -> Tensor:
        return self.network_(images)  # type: ignore[no-any-return]


@dataclass(kw_only=True, eq=False, repr=False)
class FlattenedAE(ImageDetector):
    """All numbers of the image as one vector, dense network down `hidden` and back."""

    hidden: Widths = (512, 256, 64)

    def _network(self, clips: Tensor) -> nn.Module:
        shape = clips.shape[1:]
        network = MLP(shape.numel(), self.hidden)
        return nn.Sequential(nn.Flatten(), network, nn.Unflatten(1, shape))


@dataclass(kw_only=True, eq=False, repr=False)
class VariationalImages(ImageDetector, ABC):
    """The latent mean stands for the draw when clips are rated.

    `rate_by` is "reconstruction" (mean squared error) or "elbo" (with 2 beta KL / dim). The loss is
    mean squared error + 2 beta KL / dim; see docs/systems.md for what a strong beta does.
    """

    beta: NotNegative = 1.0
    rate_by: Literal["reconstruction", "elbo"] = "reconstruction"

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return negative_elbo(network, batch, self.beta)

    def _anomaly(self, clip: Tensor) -> float:
        if self.rate_by == "elbo":
            return self._loss(self.network_, clip[None]).item()
        return super()._anomaly(clip)

    def _rebuilt(self, images: Tensor) -> Tensor:
        return self.network_(images)[0]  # type: ignore[no-any-return]


@dataclass(kw_only=True, eq=False, repr=False)
class FlattenedVAE(VariationalImages):
    """Dense variational autoencoder of all numbers of the image."""

    hidden: Widths = (512, 256)
    latent: Count = 8
    beta: NotNegative = 0.001

    def _network(self, clips: Tensor) -> nn.Module:
        return FlatImages(VAE(clips[0].numel(), self.hidden, self.latent))


class FlatImages(nn.Module):
    """A VAE of vectors, for images."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rebuilt, mean, log_variance = self.vae(images.flatten(1))
        return rebuilt.view_as(images), mean, log_variance


@dataclass(kw_only=True, eq=False, repr=False)
class ConvVAE(VariationalImages):
    """Three stride-2 convolutions, a few latent numbers, and back."""

    widths: Widths = (32, 64, 128)
    latent: Count = 8
    beta: NotNegative = 0.1

    def _network(self, clips: Tensor) -> nn.Module:
        return ConvVAENetwork(clips.shape[1:], self.widths, self.latent)


class ConvVAENetwork(nn.Module):
    """Returns the reconstruction, and mean and log-variance of the latent numbers."""

    def __init__(self, shape: Sequence[int], widths: Sequence[int], latent: int) -> None:
        super().__init__()
        self.stride = 2 ** len(widths)
        height, width = (-(-side // self.stride) for side in shape)
        inner = widths[-1] * height * width
        self.down = nn.Sequential(*strided_convs(widths), nn.Flatten())
        self.mean = nn.Linear(inner, latent)
        self.log_variance = nn.Linear(inner, latent)
        self.up = nn.Sequential(
            nn.Linear(latent, inner),
            nn.ReLU(),
            nn.Unflatten(1, (widths[-1], height, width)),
            *transposed_convs(widths),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        within = self.down(padded(images, self.stride))
        mean, log_variance = self.mean(within), self.log_variance(within)
        rebuilt = cropped(self.up(drawn(mean, log_variance, self.training)), images)
        return rebuilt, mean, log_variance


@dataclass(kw_only=True, eq=False, repr=False)
class StridedConvAE(ImageDetector):
    """Three stride-2 convolutions and back to a sigmoid."""

    widths: Widths = (32, 64, 128)

    wants_scaling: ClassVar[bool] = False

    def _network(self, clips: Tensor) -> nn.Module:
        layers = [*strided_convs(self.widths), *transposed_convs(self.widths), nn.Sigmoid()]
        return Convolutional(nn.Sequential(*layers), 2 ** len(self.widths))


@dataclass(kw_only=True, eq=False, repr=False)
class PooledConvAE(ImageDetector):
    """Convolution, BatchNorm, max-pooling, three times; upsampling back to a sigmoid."""

    epochs: Count = 15
    patience: Count = 5
    widths: Widths = (32, 64, 128)

    wants_scaling: ClassVar[bool] = False

    def _network(self, clips: Tensor) -> nn.Module:
        layers: list[nn.Module] = []
        for before, after in pairwise([1, *self.widths]):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        for before, after in pairwise([*self.widths[::-1], self.widths[0]]):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
            layers += [nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.Conv2d(self.widths[0], 1, 3, padding=1), nn.Sigmoid()]
        return Convolutional(nn.Sequential(*layers), 2 ** len(self.widths))


class Convolutional(nn.Module):
    """A network of (n, 1, height, width) for images (n, n_frames, dim) of any size."""

    def __init__(self, network: nn.Module, stride: int) -> None:
        super().__init__()
        self.network = network
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        return cropped(self.network(padded(images, self.stride)), images)


def strided_convs(widths: Sequence[int]) -> list[nn.Module]:
    """Halve height and width once per width."""
    layers: list[nn.Module] = []
    for before, after in pairwise([1, *widths]):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    return layers


def transposed_convs(widths: Sequence[int]) -> list[nn.Module]:
    """Double height and width once per width, linear at the end."""
    layers: list[nn.Module] = []
    for before, after in pairwise([*widths[::-1], 1]):
        layers += [doubling(before, after), nn.ReLU()]
    return layers[:-1]


def doubling(before: int, after: int, *, bias: bool = True) -> nn.Module:
    """Transposed convolution to twice the height and width."""
    return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1, bias=bias)


def padded(images: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples, (n, 1, height, width)."""
    height, width = images.shape[1:]
    return nn.functional.pad(
        images[:, None], (0, -width % multiple, 0, -height % multiple), mode="replicate"
    )


def cropped(rebuilt: Tensor, images: Tensor) -> Tensor:
    """Undo `padded`."""
    return rebuilt[:, 0, : images.shape[1], : images.shape[2]]
