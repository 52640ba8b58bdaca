"""EfficientAT: small convolutional networks distilled from transformers on AudioSet, at 32 kHz.

Schmid, Koutini and Widmer, "Efficient large-scale audio tagging via transformer-to-CNN knowledge
distillation", ICASSP 2023; the network is MobileNetV3-Large of Howard et al., "Searching for
MobileNetV3", ICCV 2019, in several widths. Weights: MIT. Checkpoints carry the names and shapes of
the published ones; the width is read from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from embed.encoders.band_power import htk_filters
from embed.encoders.batch_norm import batch_norm_shapes, folded
from embed.layers import LAST, LayeredNetwork, outputs_of_map
from embed.pretrained import SEED, compile_for, without_tf32
from fetch.reading import check_tensors, read_tensors

RATE = 32_000
N_FFT, WINDOW, HOP = 1024, 800, 320
N_MELS, FMIN, FMAX = 128, 0.0, 15_000.0
PREEMPHASIS = 0.97
LOG_OFFSET = 1e-5
MEAN, DEVIATION = -4.5, 5.0
BN_EPS = 1e-3
MULTIPLE = 8  # of which every number of channels is one

WIDTHS = {
    **{"mn04": 0.4, "mn05": 0.5, "mn10": 1.0, "mn20": 2.0, "mn30": 3.0, "mn40": 4.0},
    "mn40_ext": 4.0,
}


@dataclass(frozen=True)
class Block:
    """An inverted residual block of MobileNetV3-Large: the paper's Table 1, at width 1."""

    kernel: int
    expanded: int
    out: int
    squeezes: bool
    hard_swish: bool
    stride: int = 1


BLOCKS = (
    Block(3, 16, 16, squeezes=False, hard_swish=False),
    Block(3, 64, 24, squeezes=False, hard_swish=False, stride=2),
    Block(3, 72, 24, squeezes=False, hard_swish=False),
    Block(5, 72, 40, squeezes=True, hard_swish=False, stride=2),
    Block(5, 120, 40, squeezes=True, hard_swish=False),
    Block(5, 120, 40, squeezes=True, hard_swish=False),
    Block(3, 240, 80, squeezes=False, hard_swish=True, stride=2),
    Block(3, 200, 80, squeezes=False, hard_swish=True),
    Block(3, 184, 80, squeezes=False, hard_swish=True),
    Block(3, 184, 80, squeezes=False, hard_swish=True),
    Block(3, 480, 112, squeezes=True, hard_swish=True),
    Block(3, 672, 112, squeezes=True, hard_swish=True),
    Block(5, 672, 160, squeezes=True, hard_swish=True, stride=2),
    Block(5, 960, 160, squeezes=True, hard_swish=True),
    Block(5, 960, 160, squeezes=True, hard_swish=True),
)
LAST_LAYER = len(BLOCKS) + 1
STEM = 16
LAST_EXPANSION = 6
SQUEEZE = 4
LAST_KEY = f"features.{LAST_LAYER}.0.weight"


def channels(n: float) -> int:
    """Round a number of channels to a multiple of 8, and not down by more than a tenth."""
    rounded = max(MULTIPLE, int(n + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded if rounded >= 0.9 * n else rounded + MULTIPLE


def block_parts(number: int, n_in: int, width: float) -> dict[str, str]:
    """Name the convolutions of a block, and its squeeze where it has one."""
    block = BLOCKS[number - 1]
    names = ["depthwise", *(["squeeze"] if block.squeezes else []), "project"]
    if channels(block.expanded * width) != n_in:
        names.insert(0, "expand")
    return {name: f"features.{number}.block.{i}" for i, name in enumerate(names)}


def expected_shapes(width: float) -> dict[str, tuple[int, ...]]:
    """List the published tensors that the embedding needs, for a network of some width."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, *shape: int) -> None:
        shapes[f"{name}.0.weight"] = shape
        shapes.update(batch_norm_shapes(f"{name}.1", shape[0]))

    n_in = channels(STEM * width)
    convolution("features.0", n_in, 1, 3, 3)
    for number, block in enumerate(BLOCKS, start=1):
        expanded, n_out = channels(block.expanded * width), channels(block.out * width)
        parts = block_parts(number, n_in, width)
        if "expand" in parts:
            convolution(parts["expand"], expanded, n_in, 1, 1)
        convolution(parts["depthwise"], expanded, 1, block.kernel, block.kernel)
        if "squeeze" in parts:
            squeeze, n = f"{parts['squeeze']}.conc_se_layers.0", channels(expanded // SQUEEZE)
            shapes |= {f"{squeeze}.fc1.weight": (n, expanded), f"{squeeze}.fc1.bias": (n,)}
            shapes |= {f"{squeeze}.fc2.weight": (expanded, n), f"{squeeze}.fc2.bias": (expanded,)}
        convolution(parts["project"], n_out, expanded, 1, 1)
        n_in = n_out
    convolution(f"features.{LAST_LAYER}", LAST_EXPANSION * n_in, n_in, 1, 1)
    return shapes


def random_tensors(width: float, seed: int = SEED) -> dict[str, Tensor]:
    """Draw weights that keep the signal's scale, under the published names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_shapes(width).items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            tensors[name] = noise * (2 / noise[0].numel()) ** 0.5
        elif name.endswith((".running_var", ".1.weight")):
            tensors[name] = 1 + 0.1 * noise.clamp(-5, 5)
        else:
            tensors[name] = 0.1 * noise
    return tensors


def load_tensors(path: Path) -> tuple[dict[str, Tensor], float]:
    """Read a checkpoint of any width; ValueError for another architecture."""
    tensors = read_tensors(path)
    last = tensors.get(LAST_KEY)
    width = last.shape[1] / BLOCKS[-1].out if last is not None and last.ndim == 4 else 1.0
    what = f"EfficientAT (MobileNetV3-Large of width {width:g}, 128 mel bands)"
    check_tensors(tensors, expected_shapes(width), path, what)
    return tensors, width


class FrontEnd(nn.Module):
    """Waveforms `(n, n_samples)` to normalised log-mel `(n, 128, n_frames)`."""

    window: Tensor
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False))
        mel = torch.from_numpy(htk_filters(RATE, N_FFT, N_MELS, FMIN, FMAX))
        self.register_buffer("mel", mel.float())

    def forward(self, waveforms: Tensor) -> Tensor:
        # one clip at a time fits into a CPU's cache; a GPU is faster with all of them
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            return torch.cat([self.forward(clip) for clip in torch.split(waveforms, 1)])
        emphasised = waveforms[:, 1:] - PREEMPHASIS * waveforms[:, :-1]
        spectrum = torch.stft(
            emphasised, N_FFT, HOP, WINDOW, self.window, pad_mode="reflect", return_complex=True
        )  # (n, n_bins, n_frames)
        power = torch.view_as_real(spectrum).square().sum(dim=-1)
        log_mel = (self.mel.T @ power + LOG_OFFSET).log()
        return (log_mel - MEAN) / DEVIATION


class Residual(nn.Module):
    """Expand to more channels, filter each by itself, weigh them, project; add the input."""

    def __init__(self, tensors: Mapping[str, Tensor], number: int, n_in: int, width: float) -> None:
        super().__init__()
        block, parts = BLOCKS[number - 1], block_parts(number, n_in, width)

        def convolution(part: str, **options: Any) -> nn.Conv2d:
            name = parts[part]
            return folded(tensors, f"{name}.0", f"{name}.1", BN_EPS, **options)

        self.hard_swish = block.hard_swish
        self.expand = convolution("expand") if "expand" in parts else None
        self.depthwise = convolution("depthwise", stride=block.stride, depthwise=True)
        self.project = convolution("project")
        self.adds = block.stride == 1 and self.project.out_channels == n_in
        self.squeeze = nn.ModuleList()
        if "squeeze" in parts:
            name = f"{parts['squeeze']}.conc_se_layers.0"
            self.squeeze = nn.ModuleList(_linear(tensors, f"{name}.fc{i}") for i in (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        expanded = x if self.expand is None else self._activated(self.expand(x))
        filtered = self._activated(self.depthwise(expanded))
        if len(self.squeeze):
            first, second = self.squeeze
            weights = second(functional.relu(first(filtered.mean(dim=(2, 3))))).sigmoid()
            filtered = filtered * weights[:, :, None, None]
        y: Tensor = self.project(filtered)
        return x + y if self.adds else y

    def _activated(self, x: Tensor) -> Tensor:
        return functional.hardswish(x) if self.hard_swish else functional.relu(x)


class Network(nn.Module):
    """Normalised log-mel `(n, 128, n_frames)` to the maps after some layers.

    A map is `(n, channels, n_bands, t)`. Layer 0 is the first convolution, 1 to 15 are the blocks,
    16 is the last convolution; nothing is computed above the last wanted one.
    """

    def __init__(self, tensors: Mapping[str, Tensor], width: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.stem = folded(tensors, "features.0.0", "features.0.1", BN_EPS, stride=2)
        n_in = [channels(STEM * width), *(channels(block.out * width) for block in BLOCKS)]
        self.blocks = nn.ModuleList(
            Residual(tensors, number, n, width)
            for number, n in enumerate(n_in[: len(BLOCKS)], start=1)
        )
        last = f"features.{LAST_LAYER}"
        self.last = folded(tensors, f"{last}.0", f"{last}.1", BN_EPS)
        self.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, log_mel: Tensor, *layers: int) -> tuple[Tensor, ...]:
        x = log_mel.unsqueeze(1).to(self.dtype, memory_format=torch.channels_last)
        maps = []
        for number in range(layers[-1] + 1):
            if number in (0, LAST_LAYER):
                x = functional.hardswish(self.last(x) if number else self.stem(x))
            else:
                x = self.blocks[number - 1](x)
            if number in layers:
                maps.append(x.float())
        return tuple(maps)


def _linear(tensors: Mapping[str, Tensor], name: str) -> nn.Linear:
    weight = tensors[f"{name}.weight"]
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.bias = nn.Parameter(tensors[f"{name}.bias"], requires_grad=False)
    return linear


@dataclass(frozen=True, kw_only=True)
class EfficientAT(LayeredNetwork):
    """EfficientAT: `clip` (n, d), `bands` (n, 4, d), `frames` (n, t, d), one per 0.32 s.

    d is 384, 480, 960, 1920, 2880 or 3840, from mn04 to mn40. All are the last map, whose mean
    over frequency and time, `clip`, the published classifier is given. `layer` is 0, the first
    convolution, to 16, the last: 64, 32 (from 2), 16 (from 4), 8 (from 7) and 4 bands (from 13).
    """

    sample_rate: int = RATE
    variant: Literal["mn04", "mn05", "mn10", "mn20", "mn30", "mn40", "mn40_ext"] = "mn10"

    native_rate: ClassVar[int] = RATE
    usual_variant: ClassVar[str] = "mn10"
    outputs: ClassVar[tuple[str, ...]] = ("clip", "bands", "frames", "map")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 1, "cuda": 64}  # one fits into the cache

    @property
    def published_name(self) -> str:
        is_usual = self.variant == self.usual_variant
        return self.registered_name if is_usual else f"{self.registered_name}-{self.variant}"

    @property
    def min_samples(self) -> int:
        return N_FFT

    @property
    def layers(self) -> range:
        return range(LAST_LAYER + 1)

    @cached_property
    def _parts(self) -> tuple[FrontEnd, Any]:
        checkpoint, width = self.checkpoint, WIDTHS[self.variant]
        if checkpoint is None:
            tensors = random_tensors(width)
        else:
            tensors, width = load_tensors(checkpoint.path)
        network = Network(tensors, width, self.dtype)
        return FrontEnd().to(self.device), compile_for(network, self)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return the input of the network, `(n, 128, n_frames)`."""
        with without_tf32():
            return self._parts[0](waveforms)  # type: ignore[no-any-return]

    @without_tf32()
    def forward_layers(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        """Compute the maps after the wanted layers, and pool them."""
        front_end, network = self._parts
        numbers = {layer: LAST_LAYER if layer == LAST else layer for layer in wanted}
        distinct = tuple(dict.fromkeys(numbers.values()))
        map_of = dict(zip(distinct, network(front_end(waveforms), *distinct), strict=True))
        outputs = {}
        for layer, names in wanted.items():
            grid = map_of[numbers[layer]].permute(0, 2, 3, 1)  # (n, n_bands, t, channels)
            own = names & {"clip"} if layer == LAST else frozenset()
            outputs[layer] = outputs_of_map(grid, names - own)
            if own:
                outputs[layer]["clip"] = grid.mean(dim=(1, 2))
        return outputs
