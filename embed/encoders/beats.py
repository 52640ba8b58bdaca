"""BEATs: patches of a mel spectrogram, trained without labels on AudioSet, at 16 kHz.

Chen et al., "BEATs: audio pre-training with acoustic tokenizers", ICML 2023. Weights: MIT.
Checkpoints are the published ones, `cfg` and `model` in a file of torch, or their tensors under
the same names in a safetensors file. The size of the model is read from the tensors.

A token is a patch of 16 bands by 16 frames: 8 along frequency, 62 along time for 10 s. Places in
time are told by a convolution over the tokens and by a bias of attention that depends on the
distance of two tokens and is gated by the query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn
from torch.nn import functional

from embed.encoders.kaldi import FRAME, HOP, Fbank
from embed.encoders.patch_transformer import PatchTransformer, n_blocks, say_unused
from embed.encoders.transformer import (
    Block,
    Stack,
    fixed,
    layer_norm,
    linear,
    patches,
    random_tensors,
)
from embed.pretrained import SEED
from fetch.reading import check_tensors, read_checkpoint

MEAN, STD = 15.41663, 6.55582
PATCH, N_BANDS = 16, 8
EPS = 1e-5
GATES = 8  # numbers from which a query makes its gate, in two groups
PARTS = {
    "project": "self_attn.out_proj",
    "widen": "fc1",
    "narrow": "fc2",
    "norm1": "self_attn_layer_norm",
    "norm2": "final_layer_norm",
}
LARGEST_DISTANCE = 100_000


@dataclass(frozen=True)
class BeatsConfig:
    """Size of a BEATs, and the one number that its tensors do not tell."""

    depth: int = 12
    width: int = 768
    wide: int = 3072
    n_heads: int = 12
    patch_width: int = 512
    n_buckets: int = 320
    kernel: int = 128
    group_width: int = 48
    max_distance: int = 800


SUPPORTED = {
    "input_patch_size": PATCH,
    "conv_bias": False,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
}
"""Settings in `cfg` that decide the arithmetic, with the only value that there is code for."""


def expected_shapes(config: BeatsConfig) -> dict[str, tuple[int, ...]]:
    """List the published tensors that the embedding needs."""
    d = config.width
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (config.patch_width, 1, PATCH, PATCH),
        "layer_norm.weight": (config.patch_width,),
        "layer_norm.bias": (config.patch_width,),
        "post_extract_proj.weight": (d, config.patch_width),
        "post_extract_proj.bias": (d,),
        "encoder.pos_conv.0.weight_g": (1, 1, config.kernel),
        "encoder.pos_conv.0.weight_v": (d, config.group_width, config.kernel),
        "encoder.pos_conv.0.bias": (d,),
        "encoder.layer_norm.weight": (d,),
        "encoder.layer_norm.bias": (d,),
        _bias_of(0): (config.n_buckets, config.n_heads),
    }
    for i in range(config.depth):
        layer = f"encoder.layers.{i}"
        for part, n_out, n_in in (
            *((f"self_attn.{name}_proj", d, d) for name in ("q", "k", "v", "out")),
            ("fc1", config.wide, d),
            ("fc2", d, config.wide),
            ("self_attn.grep_linear", GATES, d // config.n_heads),
        ):
            shapes[f"{layer}.{part}.weight"] = (n_out, n_in)
            shapes[f"{layer}.{part}.bias"] = (n_out,)
        shapes[f"{layer}.self_attn.grep_a"] = (1, config.n_heads, 1, 1)
        for part in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}.{part}.weight": (d,), f"{layer}.{part}.bias": (d,)}
    return shapes


def _bias_of(layer: int) -> str:
    """Name the table of position biases; all layers share the first one's."""
    return f"encoder.layers.{layer}.self_attn.relative_attention_bias.weight"


def load_tensors(path: Path) -> tuple[dict[str, Tensor], BeatsConfig]:
    """Read a checkpoint; ValueError for another architecture, in one line."""
    tensors, settings = read_checkpoint(path)
    config = _config_of(tensors, path)
    expected = expected_shapes(config)
    what = f"BEATs ({config.depth} layers, {config.width}-d)"
    check_tensors(tensors, expected, path, what)
    copies = tuple(_bias_of(i) for i in range(config.depth))
    say_unused(tensors, expected, path, head=("predictor.",), known=copies)
    return tensors, _with_settings(config, settings, path)


def _config_of(tensors: Mapping[str, Tensor], path: Path) -> BeatsConfig:
    """Read the size of a model from its tensors."""
    names = {
        "post_extract_proj.weight": 2,
        "encoder.pos_conv.0.weight_v": 3,
        "encoder.layers.0.fc1.weight": 2,
        _bias_of(0): 2,
    }
    if any(name not in tensors or tensors[name].ndim != n for name, n in names.items()):
        check_tensors(tensors, expected_shapes(BeatsConfig()), path, "BEATs")
    project, convolution, widen, bias = (tensors[name] for name in names)
    (width, patch_width), (_, group_width, kernel) = project.shape, convolution.shape
    n_buckets, n_heads = bias.shape
    sizes = (width, patch_width, group_width, kernel, n_buckets, n_heads)
    if min(sizes) < 1 or width % n_heads or width % group_width or n_buckets % 4:
        raise ValueError(
            f"{path} is not a checkpoint of BEATs: its width {width} cannot be divided among "
            f"{n_heads} heads and groups of {group_width}, or its {n_buckets} buckets in four"
        )
    return BeatsConfig(
        depth=n_blocks(tensors, "encoder.layers.{}.fc1.weight"),
        width=width,
        wide=len(widen),
        n_heads=n_heads,
        patch_width=patch_width,
        n_buckets=n_buckets,
        kernel=kernel,
        group_width=group_width,
    )


def _with_settings(config: BeatsConfig, settings: Mapping[str, Any], path: Path) -> BeatsConfig:
    """Take what only `cfg` tells; ValueError for a setting that there is no code for.

    A file without `cfg` has the settings of the published ones.
    """
    for name, only in SUPPORTED.items():
        value = settings.get(name, only)
        if type(value) is not type(only) or value != only:
            raise ValueError(f"{path} asks for {name} {value!r}, supported is {only!r}")
    distance = settings.get("max_distance", config.max_distance)
    least = config.n_buckets // 4 + 1
    if type(distance) is not int or not least <= distance <= LARGEST_DISTANCE:
        raise ValueError(
            f"{path} has max_distance {distance!r}, expected {least} to {LARGEST_DISTANCE:,}"
        )
    return replace(config, max_distance=distance)


def buckets(config: BeatsConfig) -> Tensor:
    """Return the bucket of each distance, key minus query, from -max to max, `(2 * max + 1,)`.

    Half of the buckets are for keys behind the query. Of a half, one half has a bucket for each
    distance, the others are equally wide in the logarithm, up to the largest distance. Raffel et
    al., "Exploring the limits of transfer learning with a unified text-to-text transformer",
    JMLR 21, 2020.
    """
    half = config.n_buckets // 2
    exact = half // 2
    distance = torch.arange(-config.max_distance, config.max_distance + 1)
    size = distance.abs()
    share = (size.clamp(min=1).float() / exact).log() / math.log(config.max_distance / exact)
    far = (exact + (share * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(size < exact, size, far) + half * (distance > 0)


class GatedBlock(Block):
    """A block whose attention has a position bias, gated per query and head."""

    def __init__(
        self, tensors: Mapping[str, Tensor], config: BeatsConfig, i: int, dtype: torch.dtype
    ) -> None:
        layer = f"encoder.layers.{i}"
        parts = {
            f"{ours}.{kind}": tensors[f"{layer}.{theirs}.{kind}"]
            for ours, theirs in PARTS.items()
            for kind in ("weight", "bias")
        }
        for kind in ("weight", "bias"):
            names = (f"{layer}.self_attn.{part}_proj.{kind}" for part in "qkv")
            parts[f"qkv.{kind}"] = torch.cat([tensors[name] for name in names])
        super().__init__(
            parts,
            n_heads=config.n_heads,
            eps=EPS,
            dtype=dtype,
            norm_first=False,
            residual=(2 * config.depth) ** 0.25,
        )
        # of each group of four numbers only the sum is used
        gate = f"{layer}.self_attn.grep_linear"
        weight, bias = tensors[f"{gate}.weight"], tensors[f"{gate}.bias"]
        weight, bias = (torch.unflatten(each, 0, (2, -1)).sum(dim=1) for each in (weight, bias))
        self.gates = linear(weight, bias, dtype)
        self.gate_scale = fixed(tensors[f"{layer}.self_attn.grep_a"])  # (1, n_heads, 1, 1)

    def gate(self, queries: Tensor) -> Tensor:
        """Return what the position bias of each query is multiplied by, `(n, n_heads, n, 1)`."""
        first, second = self.gates(queries).float().sigmoid().split(1, dim=3)
        scaled: Tensor = first * (second * self.gate_scale - 1) + 2
        return scaled

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, position: Tensor | None
    ) -> Tensor:
        assert position is not None
        bias = (self.gate(queries) * position).to(queries.dtype)
        return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)


class Network(Stack):
    """Normalised log-mel `(n, n_frames, 128)` to tokens; frames beyond whole patches are left."""

    position_bias: Tensor

    def __init__(
        self, tensors: Mapping[str, Tensor], config: BeatsConfig, dtype: torch.dtype
    ) -> None:
        blocks = (GatedBlock(tensors, config, i, dtype) for i in range(config.depth))
        super().__init__(blocks)
        self.dtype = dtype
        self.max_distance = config.max_distance
        self.patches = patches(tensors["patch_embedding.weight"], None, dtype)
        self.patch_norm = layer_norm(tensors, "layer_norm", EPS)
        name = "post_extract_proj"
        self.project = linear(tensors[f"{name}.weight"], tensors[f"{name}.bias"], dtype)
        self.convolution = _convolution(tensors, config, dtype)
        self.first_norm = layer_norm(tensors, "encoder.layer_norm", EPS)
        table = tensors[_bias_of(0)][buckets(config)]  # (n_distances, n_heads)
        self.register_buffer("position_bias", table.T.contiguous())

    def embed(self, spectrogram: Tensor) -> Tensor:
        image = self.patches(spectrogram.to(self.dtype).unsqueeze(1))  # (n, 512, t, 8)
        x = self.patch_norm(image.flatten(2).transpose(1, 2).float())  # (n, t * 8, 512)
        x = self.project(x.to(self.dtype)).float()
        around = self.convolution(x.to(self.dtype).transpose(1, 2))[..., : x.shape[1]]
        normed: Tensor = self.first_norm(x + functional.gelu(around).transpose(1, 2))
        return normed

    def position(self, x: Tensor) -> Tensor:
        """Return the bias of each pair of tokens, `(n_heads, n_tokens, n_tokens)`."""
        place = torch.arange(x.shape[1], device=x.device)
        distance = place[None, :] - place[:, None]
        limit = self.max_distance
        return self.position_bias[:, distance.clamp(-limit, limit) + limit]


def _convolution(
    tensors: Mapping[str, Tensor], config: BeatsConfig, dtype: torch.dtype
) -> nn.Conv1d:
    """Return the convolution over tokens, with its weight norm multiplied out per tap."""
    d, kernel = config.width, config.kernel
    g, v = (tensors[f"encoder.pos_conv.0.weight_{part}"].double() for part in "gv")
    layer = nn.Conv1d(
        d,
        d,
        kernel,
        padding=kernel // 2,
        groups=d // config.group_width,
        device="meta",
        dtype=dtype,
    )
    norm = v.square().sum(dim=(0, 1), keepdim=True).sqrt().clamp(min=1e-30)
    layer.weight = fixed(g * v / norm, dtype)
    layer.bias = fixed(tensors["encoder.pos_conv.0.bias"], dtype)
    return layer


@dataclass(frozen=True, kw_only=True)
class Beats(PatchTransformer):
    """BEATs: `clip` (n, 768), `bands` (n, 8, 768), `frames` (n, t, 768), one per 0.16 s.

    `clip` is the mean of all patches. `window` is how many seconds are heard at once: the model
    takes any length and was trained on 10 s; attention grows with its square.
    """

    variant: Literal["iter3_plus", "iter3"] = "iter3_plus"
    window: Annotated[float, Ge(0.2), Le(120)] = 10.24

    usual_variant: ClassVar[str] = "iter3_plus"
    n_bands: ClassVar[int] = N_BANDS
    is_time_major: ClassVar[bool] = True
    frame: ClassVar[int] = FRAME

    @property
    def longest(self) -> int:
        return round(self.window * self.sample_rate / HOP)

    def build(self) -> tuple[nn.Module, Stack]:
        checkpoint = self.checkpoint
        if checkpoint is None:
            config = BeatsConfig()
            tensors = random_tensors(expected_shapes(config), SEED)
        else:
            tensors, config = load_tensors(checkpoint.path)
        front_end = Fbank(window="povey", scale=2.0**15, mean=MEAN, std=STD)
        return front_end, Network(tensors, config, self.dtype)
