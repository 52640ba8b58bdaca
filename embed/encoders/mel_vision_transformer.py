"""What CED and Dasheng share: a log-mel in dB, and a vision transformer over its patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from embed.encoders.band_power import triangular_filters
from embed.encoders.patch_transformer import check_width, n_blocks, n_heads, say_unused
from embed.encoders.transformer import (
    Block,
    Stack,
    block_shapes,
    block_tensors,
    layer_norm,
    patches,
)
from fetch.reading import check_tensors, read_tensors

RATE, N_FFT, HOP = 16_000, 512, 160
N_MELS, FMAX = 64, 8000.0
AMIN, RANGE_DB = 1e-10, 120.0
BN_EPS, EPS = 1e-5, 1e-6
PARTS = ("weight", "bias", "running_mean", "running_var")


def mel_filters() -> Tensor:
    """Return triangles of height one, equally wide on HTK's mel scale and straight in Hz."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + FMAX / 700), N_MELS + 2) / 2595) - 1)
    frequencies = np.linspace(0, RATE / 2, N_FFT // 2 + 1)
    return torch.from_numpy(triangular_filters(frequencies, edges))


class FrontEnd(nn.Module):
    """Waveforms `(n, n_samples)` to normalised log-mel `(n, n_frames, 64)`, in float64.

    The floor is 120 dB below the loudest value of each clip. The published code takes the loudest
    of the batch, so that a clip's vector depends on its neighbours.
    """

    window: Tensor
    mel: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], batch_norm: str) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT, dtype=torch.float64))
        self.register_buffer("mel", mel_filters())
        weight, bias, mean, var = (tensors[f"{batch_norm}.{part}"].double() for part in PARTS)
        scale = weight / (var + BN_EPS).sqrt()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", bias - mean * scale)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return the log-mel in dB before normalisation."""
        spectrum = torch.stft(
            waveforms.double(), N_FFT, HOP, window=self.window, return_complex=True
        )  # (n, n_bins, n_frames)
        power = torch.view_as_real(spectrum).square().sum(dim=-1)
        log_mel = 10 * (power.transpose(1, 2) @ self.mel).clamp(min=AMIN).log10()
        return log_mel.maximum(log_mel.amax(dim=(1, 2), keepdim=True) - RANGE_DB)

    def forward(self, waveforms: Tensor) -> Tensor:
        # one waveform at a time fits into a CPU's cache; a GPU is faster with all of them
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            return torch.cat([self.forward(one) for one in torch.split(waveforms, 1)])
        return (self.log_mel(waveforms) * self.scale + self.shift).float()


@dataclass(frozen=True)
class Layout:
    """How an encoder cuts a spectrogram into patches, and how its checkpoint is written."""

    name: str
    patch: tuple[int, int]
    """Mel bands and frames of a patch."""
    n_columns: int
    """Most patches along time."""
    batch_norm: str
    """Name of the first BatchNorm's tensors."""
    classifier: tuple[str, ...] = ()
    """How the names of a classifier's tensors start, which every published file has."""

    @property
    def n_bands(self) -> int:
        return N_MELS // self.patch[0]

    def shapes(self, width: int, depth: int, wide: int) -> dict[str, tuple[int, ...]]:
        """List the published tensors that the embedding needs."""
        shapes: dict[str, tuple[int, ...]] = {
            **{f"{self.batch_norm}.{part}": (N_MELS,) for part in PARTS},
            "encoder.patch_embed.proj.weight": (width, 1, *self.patch),
            "encoder.patch_embed.proj.bias": (width,),
            "encoder.time_pos_embed": (1, width, 1, self.n_columns),
            "encoder.freq_pos_embed": (1, width, self.n_bands, 1),
            "encoder.norm.weight": (width,),
            "encoder.norm.bias": (width,),
        }
        for i in range(depth):
            shapes |= block_shapes(f"encoder.blocks.{i}", width, wide)
        return shapes

    def load(self, path: Path) -> dict[str, Tensor]:
        """Read a checkpoint, in the form of Hugging Face or in the older one of Zenodo.

        ValueError for another architecture, in one line. The size is read from the tensors.
        """
        tensors = {self._published(name): t for name, t in read_tensors(path).items()}
        widen = tensors.get("encoder.blocks.0.mlp.fc1.weight")
        if widen is None or widen.ndim != 2:
            check_tensors(tensors, self.shapes(768, 12, 3072), path, self.name)
        assert widen is not None
        wide, width = widen.shape
        depth = n_blocks(tensors, "encoder.blocks.{}.mlp.fc1.weight")
        expected = self.shapes(width, depth, wide)
        check_tensors(tensors, expected, path, f"{self.name} ({depth} layers, {width}-d)")
        check_width(width, path, self.name)
        say_unused(tensors, expected, path, known=(*self.classifier, "encoder.front_end."))
        return tensors

    def _published(self, name: str) -> str:
        """Name a tensor as the file on Hugging Face does."""
        if not name.startswith(("encoder.", *self.classifier)):
            name = f"encoder.{name}"
        return name.replace("encoder.init_bn.1.", f"{self.batch_norm}.")


class Network(Stack):
    """Normalised log-mel `(n, n_frames, 64)` to tokens, those of one band side by side.

    Frames beyond whole patches are left.
    """

    time: Tensor
    band: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        depth = n_blocks(tensors, "encoder.blocks.{}.mlp.fc1.weight")
        width = len(tensors["encoder.norm.weight"])
        blocks = (
            Block(
                block_tensors(tensors, f"encoder.blocks.{i}"),
                n_heads=n_heads(width),
                eps=EPS,
                dtype=dtype,
            )
            for i in range(depth)
        )
        super().__init__(blocks, layer_norm(tensors, "encoder.norm", EPS))
        self.dtype = dtype
        name = "encoder.patch_embed.proj"
        self.patches = patches(tensors[f"{name}.weight"], tensors[f"{name}.bias"], dtype)
        self.register_buffer("time", tensors["encoder.time_pos_embed"])
        self.register_buffer("band", tensors["encoder.freq_pos_embed"])

    def embed(self, spectrogram: Tensor) -> Tensor:
        image = self.patches(spectrogram.to(self.dtype).transpose(1, 2).unsqueeze(1))
        x: Tensor = image + self.time[..., : image.shape[3]] + self.band  # (n, d, n_bands, t)
        return x.flatten(2).transpose(1, 2)
