"""EAT: patches of a mel spectrogram, trained without labels on AudioSet, at 16 kHz; SSLAM too.

Chen et al., "EAT: self-supervised pre-training with efficient audio transformer", IJCAI 2024.
SSLAM is the same network, trained further on mixtures: Alex et al., "SSLAM: enhancing
self-supervised models with audio mixtures for polyphonic soundscapes", ICLR 2025. Weights: MIT.
Checkpoints carry the names of the published ones on Hugging Face; the size of the model is read
from the tensors.

A token is a patch of 16 bands by 16 frames, 8 along frequency and 64 along time, after one token
that stands for the whole. Every clip is padded to 1024 frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from embed.encoders.kaldi import FRAME, Fbank
from embed.encoders.patch_transformer import (
    PatchTransformer,
    check_width,
    n_blocks,
    n_heads,
    say_unused,
)
from embed.encoders.transformer import (
    Block,
    Stack,
    block_shapes,
    block_tensors,
    layer_norm,
    patches,
    random_tensors,
)
from embed.pretrained import SEED
from fetch.reading import check_tensors, read_tensors

MEAN, STD = -4.268, 4.569
PATCH, N_BANDS, N_FRAMES = 16, 8, 1024
N_POSITIONS = N_BANDS * N_FRAMES // PATCH
LARGEST_PERIOD = 10_000
EPS = 1e-6
POSITIONS = "model.fixed_positional_encoder.positions"
HEAD = ("model.fc_norm.", "model.head.")


def expected_shapes(
    width: int = 768, depth: int = 12, wide: int = 3072
) -> dict[str, tuple[int, ...]]:
    """List the published tensors that the embedding needs."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.extra_tokens": (1, 1, width),
        "model.local_encoder.proj.weight": (width, 1, PATCH, PATCH),
        "model.local_encoder.proj.bias": (width,),
        "model.pre_norm.weight": (width,),
        "model.pre_norm.bias": (width,),
    }
    for i in range(depth):
        shapes |= block_shapes(f"model.blocks.{i}", width, wide)
    return shapes


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint; ValueError for another architecture, in one line."""
    tensors = read_tensors(path)
    widen = tensors.get("model.blocks.0.mlp.fc1.weight")
    if widen is None or widen.ndim != 2:
        check_tensors(tensors, expected_shapes(), path, "EAT")
    assert widen is not None
    wide, width = widen.shape
    depth = n_blocks(tensors, "model.blocks.{}.mlp.fc1.weight")
    expected = expected_shapes(width, depth, wide)
    check_tensors(tensors, expected, path, f"EAT ({depth} layers, {width}-d)")
    check_width(width, path, "EAT")
    stored = tensors.get(POSITIONS)
    if stored is not None and (
        stored.shape[0::2] != (1, width)
        or stored.shape[1] < N_POSITIONS
        or not torch.allclose(stored[0, :N_POSITIONS], positions(width), atol=1e-4)
    ):
        raise ValueError(f"{path} is not a checkpoint of EAT: {POSITIONS!r} has other values")
    say_unused(tensors, expected, path, head=HEAD, known=(POSITIONS,))
    return tensors


def positions(width: int) -> Tensor:
    """Return the sines and cosines that tell the place of a patch, `(N_POSITIONS, width)`.

    The first half of the numbers tells the band, the second the time.
    """
    n_periods = width // 4
    periods = LARGEST_PERIOD ** (torch.arange(n_periods, dtype=torch.float64) / n_periods)
    place = torch.arange(N_POSITIONS)
    angles = (part[:, None] / periods for part in (place % N_BANDS, place // N_BANDS))
    return torch.cat([part for a in angles for part in (a.sin(), a.cos())], dim=1).float()


class Network(Stack):
    """Normalised log-mel `(n, 1024, 128)` to tokens, the one that stands for the whole first."""

    place: Tensor
    whole: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        depth = n_blocks(tensors, "model.blocks.{}.mlp.fc1.weight")
        width = tensors["model.extra_tokens"].shape[2]
        super().__init__(
            Block(
                block_tensors(tensors, f"model.blocks.{i}"),
                n_heads=n_heads(width),
                eps=EPS,
                dtype=dtype,
                norm_first=False,
            )
            for i in range(depth)
        )
        self.dtype = dtype
        name = "model.local_encoder.proj"
        self.patches = patches(tensors[f"{name}.weight"], tensors[f"{name}.bias"], dtype)
        self.first_norm = layer_norm(tensors, "model.pre_norm", EPS)
        self.register_buffer("whole", tensors["model.extra_tokens"])
        self.register_buffer("place", positions(width))

    def embed(self, spectrogram: Tensor) -> Tensor:
        image = self.patches(spectrogram.to(self.dtype).unsqueeze(1))  # (n, d, 64, 8)
        x = image.flatten(2).transpose(1, 2) + self.place
        whole = self.whole.expand(x.shape[0], -1, -1)
        normed: Tensor = self.first_norm(torch.cat([whole, x], dim=1))
        return normed


@dataclass(frozen=True, kw_only=True)
class Eat(PatchTransformer):
    """EAT: `clip` and `cls` (n, 768), `bands` (n, 8, 768), `frames` (n, t, 768), one per 0.16 s.

    `clip` is the token that stands for the whole, as its authors recommend.
    """

    variant: Literal["eat", "sslam"] = "eat"

    usual_variant: ClassVar[str] = "eat"
    outputs: ClassVar[tuple[str, ...]] = ("clip", "cls", "bands", "frames", "map")
    n_bands: ClassVar[int] = N_BANDS
    n_whole: ClassVar[int] = 1
    is_time_major: ClassVar[bool] = True
    frame: ClassVar[int] = FRAME
    longest: ClassVar[int] = N_FRAMES

    @property
    def min_samples(self) -> int:
        return FRAME  # one frame, padded

    def build(self) -> tuple[nn.Module, Stack]:
        checkpoint = self.checkpoint
        if checkpoint is None:
            tensors = random_tensors(expected_shapes(), SEED)
        else:
            tensors = load_tensors(checkpoint.path)
        front_end = Fbank(mean=MEAN, std=STD, n_frames=N_FRAMES)
        return front_end, Network(tensors, self.dtype)
