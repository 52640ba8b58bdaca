"""VGGish: a convolutional network trained to label videos by their sound, at 16 kHz.

Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017. Weights:
google/vggish/1 on TensorFlow Hub, Apache-2.0. The embedding is that model's: the last layer before
any activation, without PCA and quantisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from embed.encoders.band_power import htk_filters
from embed.layers import LAST, LayeredNetwork, outputs_of_map
from embed.pretrained import SEED, compile_for, without_tf32
from fetch.vggish_weights import (
    CONVOLUTIONS,
    LINEARS,
    TORCHVGGISH_WARNING,
    expected_shapes,
    is_torchvggish,
    load_tensors,
)

if TYPE_CHECKING:
    from embed.pooling import Pooling

RATE = 16_000
FRAME, HOP, N_FFT = 400, 160, 512
N_MELS, FMIN, FMAX = 64, 125.0, 7500.0
LOG_OFFSET = 0.01
N_FRAMES = 96  # of a window
STEP = N_FRAMES * HOP
WINDOW = (N_FRAMES - 1) * HOP + FRAME
POOLED = ("conv1", "conv2", "conv3_2", "conv4_2")  # convolutions that a max-pooling follows

WINDOWS_IN_CACHE = 2
WINDOWS_AT_ONCE = {"cpu": 80, "cuda": 640}


def random_tensors(seed: int = SEED) -> dict[str, Tensor]:
    """Draw weights that keep the signal's scale, under the names that files have."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_shapes().items():
        noise = torch.randn(shape, generator=generator)
        gain = 1 if name.startswith("fc2") else 2  # a ReLU follows, but for the last layer
        tensors[name] = noise * ((gain / noise[0].numel()) ** 0.5 if len(shape) > 1 else 0.1)
    return tensors


def mel_filters() -> Tensor:
    """Return HTK's triangles, `(n_bins, n_mels)`, float64.

    The constant part of a spectrum belongs to no band.
    """
    filters = torch.from_numpy(htk_filters(RATE, N_FFT, N_MELS, FMIN, FMAX))
    filters[0] = 0
    return filters


class FrontEnd(nn.Module):
    """Waveforms of one window, `(n, 15600)`, to log-mel `(n, 96, 64)`.

    The Fourier transform is float64: in float32, a full-scale tone misses the reference by 5e-4.
    """

    window: Tensor
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(FRAME, dtype=torch.float64))
        self.register_buffer("mel", mel_filters().float())

    def forward(self, waveforms: Tensor) -> Tensor:
        # two at a time fit into a CPU's cache; a GPU is faster with all of them
        if waveforms.device.type == "cpu" and len(waveforms) > WINDOWS_IN_CACHE:
            parts = torch.split(waveforms, WINDOWS_IN_CACHE)
            return torch.cat([self.forward(part) for part in parts])
        frames = waveforms.double().unfold(1, FRAME, HOP) * self.window  # (n, 96, FRAME)
        magnitude = torch.fft.rfft(frames, N_FFT).to(torch.complex64).abs()
        log_mel: Tensor = (magnitude @ self.mel + LOG_OFFSET).log()
        return log_mel


class Network(nn.Module):
    """Log-mel `(n, 96, 64)` to the maps after some blocks of convolutions, and to embeddings.

    A map is `(n, channels, t, n_bands)`; `LAST` is the embedding, `(n, 128)`. Nothing is computed
    above the last wanted one.
    """

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.convolutions = nn.ModuleDict()
        for name, (n_in, n_out) in CONVOLUTIONS.items():
            self.convolutions[name] = nn.Conv2d(n_in, n_out, 3, padding=1, device="meta")
        self.linears = nn.ModuleDict()
        for name, (n_in, n_out) in LINEARS.items():
            self.linears[name] = nn.Linear(n_in, n_out, device="meta")
        for name, layer in [*self.convolutions.items(), *self.linears.items()]:
            for part in ("weight", "bias"):
                fixed = nn.Parameter(tensors[f"{name}.{part}"], requires_grad=False)
                setattr(layer, part, fixed)
        self.linears.to(dtype=dtype)
        self.convolutions.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, log_mel: Tensor, *wanted: int) -> tuple[Tensor, ...]:
        """Compute the wanted blocks and `LAST`, lowest first."""
        x = log_mel.unsqueeze(1).to(self.dtype, memory_format=torch.channels_last)
        block, outputs = 0, []
        for name, convolution in self.convolutions.items():
            x = convolution(x)
            if name in POOLED:  # before the ReLU, which then has a quarter of the work
                x = functional.max_pool2d(x, 2)
                block += 1
            x = functional.relu_(x)
            if name in POOLED and block in wanted:
                outputs.append(x.float())
            if block == wanted[-1]:
                return tuple(outputs)
        x = x.permute(0, 2, 3, 1).flatten(1)  # (n, 6 * 4 * 512), channels fastest
        for name, linear in self.linears.items():
            x = linear(x) if name == "fc2" else functional.relu_(linear(x))
        return (*outputs, x.float())


@dataclass(frozen=True, kw_only=True)
class VGGish(LayeredNetwork):
    """VGGish: `clip` (n_clips, 128), `frames` (n_clips, t, 128).

    `frames` has one vector per 0.96 s, each of a window of 15,600 samples (10 for 10 s); the rest
    at the end is dropped. `clip` is their mean. `layer` is the block of convolutions after which
    the map is taken, 1 to 4: 32, 16, 8 and 4 bands, and 48, 24, 12 and 6 frames per window.
    """

    sample_rate: int = RATE

    native_rate: ClassVar[int] = RATE
    outputs: ClassVar[tuple[str, ...]] = ("clip", "frames", "bands", "map")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 8, "cuda": 64}

    @property
    def min_samples(self) -> int:
        return WINDOW

    @property
    def warning(self) -> str:
        checkpoint = self.checkpoint
        if checkpoint is not None and is_torchvggish(checkpoint.path):
            return TORCHVGGISH_WARNING
        return super().warning

    @cached_property
    def _parts(self) -> tuple[FrontEnd, Any]:
        checkpoint = self.checkpoint
        tensors = random_tensors() if checkpoint is None else load_tensors(checkpoint.path)
        return FrontEnd().to(self.device), compile_for(Network(tensors, self.dtype), self)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return the input of the network, `(n_clips, t, 96, 64)`."""
        windows = waveforms.unfold(1, WINDOW, STEP)
        with without_tf32():
            return torch.unflatten(self._parts[0](windows.flatten(0, 1)), 0, windows.shape[:2])

    @property
    def layers(self) -> range:
        return range(1, len(POOLED) + 1)

    def why_not(self, pooling: Pooling) -> str:
        if self.layer == LAST and pooling.source in ("bands", "map"):
            return (
                f"the last layer of vggish has no {pooling.source!r} output; its layers "
                f"{self.layers[0]} to {self.layers[-1]} have"
            )
        return super().why_not(pooling)

    @without_tf32()
    def forward_layers(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        front_end, run = self._parts
        windows = waveforms.unfold(1, WINDOW, STEP)  # (n_clips, t, WINDOW)
        parts = torch.split(windows.flatten(0, 1), WINDOWS_AT_ONCE[waveforms.device.type])
        outputs = zip(*(run(front_end(part), *wanted) for part in parts), strict=True)
        by_window = (torch.unflatten(torch.cat(output), 0, windows.shape[:2]) for output in outputs)
        return {
            layer: self._outputs(output, wanted[layer])
            for layer, output in zip(wanted, by_window, strict=True)
        }

    def _outputs(self, output: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Pool embeddings `(n, n_windows, 128)` or maps `(n, n_windows, channels, t, n_bands)`."""
        if output.ndim == 3:
            return {"frames": output, "clip": output.mean(dim=1)}
        in_a_row = output.permute(0, 4, 1, 3, 2).flatten(2, 3)  # (n, n_bands, n_windows * t, d)
        return outputs_of_map(in_a_row, wanted)
