"""Detectors that take a clip's frames as one image and rebuild it.

Images are (n_frames, dim). Convolutional networks see them padded by their edge to a multiple of
their stride, and what they rebuild is cropped again.
"""

from __future__ import annotations

import logging
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from detect.detectors.networks import MLP, VAE, drawn
from detect.detectors.sequences import SequenceDetector, Sequences, lengths
from detect.detectors.stacked_frames import negative_elbo
from detect.detectors.training import place
from detect.options import Count, CountOrZero, Dropout, NotNegative

LEAST_CENTRE = 0.1
LEAST_SPREAD = 1e-3  # of what the latent numbers had before training
IMAGES_AT_ONCE = 16


class CollapsedError(ValueError):
    """The network found the trivial solution: all clips look alike to it."""


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
        first = (ends - wanted) // 2
        return np.stack([clip[i : i + wanted] for clip, i in zip(X, first, strict=True)])

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.mse_loss(network(batch), batch)

    def _anomaly(self, clip: Tensor) -> float:
        return (self._rebuilt(clip[None])[0] - clip).square().mean().item()

    def _rebuilt(self, images: Tensor) -> Tensor:
        return self.network_(images)  # type: ignore[no-any-return]


@dataclass(kw_only=True, eq=False, repr=False)
class FlattenedAE(ImageDetector):
    """All numbers of the image as one vector, dense network down `hidden` and back."""

    hidden: tuple[Count, ...] = (512, 256, 64)

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

    hidden: tuple[Count, ...] = (512, 256)
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

    widths: tuple[Count, ...] = (32, 64, 128)
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

    widths: tuple[Count, ...] = (32, 64, 128)

    unit_range: ClassVar[bool] = True

    def _network(self, clips: Tensor) -> nn.Module:
        layers = [*strided_convs(self.widths), *transposed_convs(self.widths), nn.Sigmoid()]
        return Convolutional(nn.Sequential(*layers), 2 ** len(self.widths))


@dataclass(kw_only=True, eq=False, repr=False)
class PooledConvAE(ImageDetector):
    """Convolution, BatchNorm, max-pooling, three times; upsampling back to a sigmoid."""

    epochs: Count = 15
    patience: Count = 5
    widths: tuple[Count, ...] = (32, 64, 128)

    unit_range: ClassVar[bool] = True

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


@dataclass(kw_only=True, eq=False, repr=False)
class SVDDAutoencoder(ImageDetector):
    """Rebuilds images while the latent map is drawn to one centre, which keeps normal compact.

    Loss: mean squared error + `svdd` times the mean squared distance of the latent vectors from
    the centre (Ruff et al., "Deep one-class classification", ICML 2018) + `l2` times the sum of
    the squared parameters. The score is the reconstruction's mean squared error. Against the
    trivial solution: the centre is the mean of a first pass, moved away from zero; the encoder
    has no bias terms; and latent numbers or scores that no longer vary are a CollapsedError.
    """

    widths: tuple[Count, ...] = (32, 64, 128, 256)
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
        refuse_collapse(before, after, scores)

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
        maps.pop()  # past the latent map there is nothing left to skip
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


def refuse_collapse(before: float, after: float, scores: np.ndarray) -> None:
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


@dataclass(kw_only=True, eq=False, repr=False)
class ResNetAutoencoder(ImageDetector):
    """A frozen ImageNet ResNet50 sees the log-mel as a picture; a CNN rebuilds it from its map.

    `weights` is a save_pretrained folder of microsoft/resnet-50, or "random" for a trial. The
    network is frozen, so that each training clip passes through it once.
    """

    weights: str = ""
    widths: tuple[Count, ...] = (256, 128, 64, 32, 16)

    unit_range: ClassVar[bool] = True

    @property
    def warning(self) -> str:
        """What a reader of its figures must know."""
        trial = "random weights: these scores say nothing about resnet50_cnn"
        return trial if self.weights == "random" else ""

    def _network(self, clips: Tensor) -> nn.Module:
        height, width = clips.shape[1:]
        return MapDecoder(2048, self.widths, (height, width))

    def blank_networks(self) -> dict[str, nn.Module]:
        return {**super().blank_networks(), "encoder_": frozen_resnet50(self.weights)}

    def _train(self, clips: Tensor, seed: int) -> None:
        self.encoder_ = frozen_resnet50(self.weights)
        self.network_ = self._network(clips)
        there = place(self.device)
        self.encoder_.to(there)
        with torch.no_grad():
            parts = torch.split(clips, IMAGES_AT_ONCE)
            maps = torch.cat([self._maps(part.to(there)).cpu() for part in parts])
        self.encoder_.to("cpu")
        self._pairs = (maps, clips)
        self._fit_network(self.network_, torch.arange(len(clips)), seed)
        del self._pairs

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        maps, images = self._pairs  # batch holds clip numbers
        rows, there = batch.cpu(), batch.device
        return nn.functional.mse_loss(network(maps[rows].to(there)), images[rows].to(there))

    def _rebuilt(self, images: Tensor) -> Tensor:
        return self.network_(self._maps(images))  # type: ignore[no-any-return]

    def _maps(self, images: Tensor) -> Tensor:
        return self.encoder_(images)  # type: ignore[no-any-return]


class ResNetMaps(nn.Module):
    """Images of 0..1 as grey pictures, normalised as ImageNet's, to ResNet50's last map."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, resnet: nn.Module) -> None:
        super().__init__()
        self.resnet = resnet.eval().requires_grad_(False)
        for name, values in (("mean", (0.485, 0.456, 0.406)), ("deviation", (0.229, 0.224, 0.225))):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images[:, None] - self.mean) / self.deviation  # (n, 3, n_frames, dim)
        return self.resnet(pixels).last_hidden_state  # type: ignore[no-any-return]


class MapDecoder(nn.Module):
    """Five doublings from ResNet50's map (2048 channels, 1/32 of each side) to one image."""

    def __init__(self, before: int, widths: Sequence[int], size: tuple[int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b in pairwise([before, *widths]):
            layers += [doubling(a, b), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        height, width = self.size
        return self.layers(maps)[:, 0, :height, :width]  # type: ignore[no-any-return]


def frozen_resnet50(weights: str) -> ResNetMaps:
    """Load ResNet50 from a folder, safetensors only, or make one of random weights."""
    from transformers import ResNetConfig, ResNetModel

    if weights == "random":
        return ResNetMaps(ResNetModel(ResNetConfig()))
    if not (Path(weights) / "model.safetensors").is_file() or not weights:
        raise ValueError(
            f"resnet50_cnn finds no ResNet50 in weights={weights!r}: python -m embed weights fetch "
            "resnet50 prints a folder with config.json and model.safetensors (102 MB) of "
            "huggingface.co/microsoft/resnet-50; give --set resnet50_cnn.weights=FOLDER, or random "
            "for a trial"
        )
    report = logging.getLogger("transformers.modeling_utils")  # on the classifier left out
    level = report.level
    report.setLevel(logging.ERROR)
    try:
        resnet = ResNetModel.from_pretrained(weights, local_files_only=True, use_safetensors=True)
    finally:
        report.setLevel(level)
    return ResNetMaps(resnet)
