"""Frozen ImageNet ResNet50 and a decoder that learns to rebuild the spectrogram."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from detect.detectors.image_autoencoders import ImageDetector, doubling
from detect.detectors.networks import Widths
from detect.detectors.training import place, seeded
from ground.files import sha256_of

IMAGES_AT_ONCE = 16
WEIGHTS_FILE = "model.safetensors"


@dataclass(kw_only=True, eq=False, repr=False)
class ResNetAutoencoder(ImageDetector):
    """A frozen ImageNet ResNet50 sees the log-mel as a picture; a CNN rebuilds it from its map.

    `weights` is a save_pretrained folder of microsoft/resnet-50, or "random" for a trial. The
    network is frozen, so that each training clip passes through it once, and a saved detector
    names its weights by their hash.
    """

    weights: str = ""
    widths: Widths = (256, 128, 64, 32, 16)

    wants_scaling: ClassVar[bool] = False
    published_network: ClassVar[str] = "resnet50"

    @property
    def warning(self) -> str:
        """Say that random weights make useless scores."""
        trial = "random weights: these scores say nothing about resnet50_cnn"
        return trial if self.weights == "random" else ""

    def _network(self, clips: Tensor) -> nn.Module:
        height, width = clips.shape[1:]
        return MapDecoder(2048, self.widths, (height, width))

    def attach_network(self, folder: str) -> None:
        """Load ResNet50 again; ValueError where `folder` does not hold the weights of the fit."""
        if self.weights == "random":
            with seeded(self.weights_seed_):
                self.encoder_ = frozen_resnet50("random")
            return
        file = Path(folder) / WEIGHTS_FILE
        if not file.is_file():
            raise ValueError(
                f"resnet50_cnn needs the ResNet50 with sha256 {self.weights_sha256_}, which was "
                f"in {self.weights} and is not in {folder}; python -m fetch fetch resnet50 "
                "brings it"
            )
        self.encoder_, sha256 = _shared_resnet50(folder, file.stat().st_mtime_ns)
        if sha256 != self.weights_sha256_:
            raise ValueError(
                f"resnet50_cnn needs the ResNet50 with sha256 {self.weights_sha256_}; "
                f"that of {file} is {sha256}"
            )
        self.weights = folder

    def _train(self, clips: Tensor, seed: int) -> None:
        """Compute the maps of all clips once, and train the decoder on them."""
        self.weights_sha256_: str = ""
        self.weights_seed_: int = seed
        if self.weights == "random":
            self.encoder_ = frozen_resnet50("random")
        else:
            file = Path(self.weights) / WEIGHTS_FILE
            modified_ns = file.stat().st_mtime_ns if file.is_file() else 0
            self.encoder_, self.weights_sha256_ = _shared_resnet50(self.weights, modified_ns)
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


@lru_cache(maxsize=1)
def _shared_resnet50(folder: str, modified_ns: int) -> tuple[ResNetMaps, str]:
    """Load ResNet50 and hash its weights once for all machines, until the file changes."""
    return frozen_resnet50(folder), sha256_of(Path(folder) / WEIGHTS_FILE)


def frozen_resnet50(weights: str) -> ResNetMaps:
    """Load ResNet50 from a folder, safetensors only, or make one of random weights."""
    from transformers import ResNetConfig, ResNetModel

    if weights == "random":
        return ResNetMaps(ResNetModel(ResNetConfig()))
    if not weights or not (Path(weights) / WEIGHTS_FILE).is_file():
        raise ValueError(
            f"resnet50_cnn finds no ResNet50 in weights={weights!r}: python -m fetch fetch "
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
