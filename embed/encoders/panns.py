"""PANNs Cnn14: a convolutional network trained to tag AudioSet's 527 sounds, at 32 kHz.

Kong et al., "PANNs: Large-scale pretrained audio neural networks for audio pattern recognition",
IEEE/ACM TASLP 28, 2020. Weights: Zenodo record 3987831, CC-BY-4.0. Checkpoints carry the names
and shapes of the published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from embed.encoders.band_power import mel_filters
from embed.encoders.batch_norm import batch_norm_shapes, folded, scale_and_shift
from embed.layers import LAST, LayeredNetwork, outputs_of_map
from embed.pretrained import SEED, compile_for, without_tf32
from fetch.reading import check_tensors, read_tensors

N_FFT, HOP = 1024, 320
N_MELS, FMIN, FMAX = 64, 50, 14_000
AMIN = 1e-10
CHANNELS = (1, 64, 128, 256, 512, 1024, 2048)
N_BLOCKS = len(CHANNELS) - 1
DIM = 2048
BN_EPS = 1e-5

KERNEL = "spectrogram_extractor.stft.conv_real.weight"
MEL = "logmel_extractor.melW"


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """List the published tensors that the embedding needs."""
    shapes: dict[str, tuple[int, ...]] = dict(batch_norm_shapes("bn0", N_MELS))
    for block, (n_in, n_out) in enumerate(pairwise(CHANNELS), start=1):
        for layer, n_from in ((1, n_in), (2, n_out)):
            shapes[f"conv_block{block}.conv{layer}.weight"] = (n_out, n_from, 3, 3)
            shapes |= batch_norm_shapes(f"conv_block{block}.bn{layer}", n_out)
    return shapes | {"fc1.weight": (DIM, DIM), "fc1.bias": (DIM,)}


def random_tensors(seed: int = SEED) -> dict[str, Tensor]:
    """Draw weights that keep the signal's scale, under the published names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_shapes().items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            tensors[name] = noise * (2 / noise[0].numel()) ** 0.5
        elif name.endswith((".running_var", "bn1.weight", "bn2.weight", "bn0.weight")):
            tensors[name] = 1 + 0.1 * noise.clamp(-5, 5)
        else:
            tensors[name] = 0.1 * noise
    tensors["bn0.running_mean"] -= 40  # of log-mel in dB
    tensors["bn0.running_var"] *= 400
    return tensors


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint; ValueError for another architecture or front end."""
    tensors = read_tensors(path)
    what = "Cnn14 (32 kHz, 64 mel bands, 2048-d)"
    check_tensors(tensors, expected_shapes(), path, what)
    front_end = {KERNEL: stft_kernel(), MEL: slaney_filters()}
    for name, ours in front_end.items():
        theirs = tensors.get(name, ours)
        if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=1e-3, atol=1e-4):
            raise ValueError(
                f"{path} is not a checkpoint of {what}: {name!r} is of another front end; "
                "a variant for another sample rate cannot be used"
            )
    return tensors


def slaney_filters() -> Tensor:
    """Return triangles of equal area, `(n_bins, n_mels)`."""
    return torch.from_numpy(mel_filters(Cnn14.native_rate, N_FFT, N_MELS, FMIN, FMAX))


def stft_kernel() -> Tensor:
    """Return the real part of the windowed Fourier basis, `(n_bins, 1, n_fft)`."""
    angles = torch.arange(N_FFT // 2 + 1).outer(torch.arange(N_FFT)) % N_FFT
    basis = torch.cos(2 * torch.pi / N_FFT * angles.double())
    return (basis * torch.hann_window(N_FFT, dtype=torch.float64)).float().unsqueeze(1)


class FrontEnd(nn.Module):
    """Waveforms `(n_clips, n_samples)` to log-mel in dB, `(n_clips, n_frames, n_mels)`."""

    window: Tensor
    mel: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(N_FFT))
        self.register_buffer("mel", tensors.get(MEL, slaney_filters()))
        scale, shift = scale_and_shift(tensors, "bn0", BN_EPS)
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())

    def normalised(self, log_mel: Tensor) -> Tensor:
        """Apply the network's first BatchNorm."""
        return log_mel * self.scale + self.shift

    def forward(self, waveforms: Tensor) -> Tensor:
        # one clip at a time fits into a CPU's cache; a GPU is faster with all of them
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            return torch.cat([self.forward(clip) for clip in torch.split(waveforms, 1)])
        spectrum = torch.stft(
            waveforms, N_FFT, HOP, window=self.window, pad_mode="reflect", return_complex=True
        )  # (n_clips, n_bins, n_frames)
        power = torch.view_as_real(spectrum).square().sum(dim=-1)
        return 10 * (power.transpose(1, 2) @ self.mel).clamp(min=AMIN).log10()


class Network(nn.Module):
    """Normalised log-mel `(n_clips, n_frames, n_mels)` to the maps after some blocks.

    A map is `(n_clips, channels, t, n_bands)`, as the next block takes it: pooled, but after the
    last. No block is computed above the last wanted one.

    BatchNorms are folded into the convolutions before them. The first has no convolution before
    it: the front end applies it, in float32.
    """

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.convolutions = nn.ModuleList(
            folded(
                tensors, f"conv_block{block}.conv{layer}", f"conv_block{block}.bn{layer}", BN_EPS
            )
            for block in range(1, N_BLOCKS + 1)
            for layer in (1, 2)
        )
        self.convolutions.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, log_mel: Tensor, *blocks: int) -> tuple[Tensor, ...]:
        x = log_mel.unsqueeze(1)  # (n_clips, 1, n_frames, n_mels)
        x = x.to(self.dtype, memory_format=torch.channels_last)
        maps = []
        for block in range(1, blocks[-1] + 1):
            first, second = self.convolutions[2 * block - 2 : 2 * block]
            x = functional.relu_(second(functional.relu_(first(x))))
            if block < N_BLOCKS:
                x = functional.avg_pool2d(x, 2)
            if block in blocks:
                maps.append(x.float())
        return tuple(maps)


@dataclass(frozen=True, kw_only=True)
class Cnn14(LayeredNetwork):
    """Cnn14: `clip` (n_clips, 2048), `bands` (n_clips, 2, 2048), `frames` (n_clips, t, 2048).

    `clip` is the published embedding. `frames` is the last map averaged over frequency, one frame
    per 0.32 s (31 for 10 s); `bands` is the same map averaged over time instead. `layer` is the
    block after which the map is taken, 1 to 6: 32, 16, 8, 4, 2 and 2 bands.
    """

    sample_rate: int = 32_000

    native_rate: ClassVar[int] = 32_000
    fastest_backends: ClassVar[tuple[str, ...]] = ("onnxruntime", "openvino")
    outputs: ClassVar[tuple[str, ...]] = ("clip", "bands", "frames", "map")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 64}

    @property
    def min_samples(self) -> int:
        return 31 * HOP  # 32 frames, which five poolings make one

    @cached_property
    def _parts(self) -> tuple[FrontEnd, Any, nn.Linear]:
        checkpoint = self.checkpoint
        tensors = random_tensors() if checkpoint is None else load_tensors(checkpoint.path)
        front_end = FrontEnd(tensors)
        network = Network(tensors, self.dtype)
        linear = nn.Linear(DIM, DIM, device="meta")
        linear.weight = nn.Parameter(tensors["fc1.weight"], requires_grad=False)
        linear.bias = nn.Parameter(tensors["fc1.bias"], requires_grad=False)
        return front_end.to(self.device), compile_for(network, self), linear.to(self.device)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return `(n_clips, n_frames, 64)` in dB."""
        with without_tf32():
            return self._parts[0](waveforms)  # type: ignore[no-any-return]

    @property
    def layers(self) -> range:
        return range(1, N_BLOCKS + 1)

    @without_tf32()
    def forward_layers(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        front_end, network, _ = self._parts
        blocks = {layer: N_BLOCKS if layer == LAST else layer for layer in wanted}
        distinct = tuple(dict.fromkeys(blocks.values()))
        maps = network(front_end.normalised(front_end(waveforms)), *distinct)
        map_after = dict(zip(distinct, maps, strict=True))
        return {
            layer: self._outputs(map_after[block], wanted[layer], is_last=layer == LAST)
            for layer, block in blocks.items()
        }

    def _outputs(
        self, features: Tensor, wanted: frozenset[str], *, is_last: bool
    ) -> dict[str, Tensor]:
        """Pool a map (n_clips, channels, t, n_bands); `clip` of the last is the embedding."""
        own = wanted & {"clip"} if is_last else frozenset()
        outputs = outputs_of_map(features.permute(0, 3, 2, 1), wanted - own)
        if own:
            frames = features.mean(dim=3)  # (n_clips, 2048, t)
            linear = self._parts[2]
            outputs["clip"] = functional.relu(linear(frames.amax(dim=2) + frames.mean(dim=2)))
        return outputs
