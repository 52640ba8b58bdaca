"""Audio Spectrogram Transformer: patches of a mel spectrogram, trained to tag AudioSet, at 16 kHz.

Gong, Chung and Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021. Weights:
MIT/ast-finetuned-audioset-10-10-0.4593 on Hugging Face, BSD-3-Clause. Checkpoints carry the names
that transformers' `save_pretrained` writes; the settings of a folder are used.

A token is a patch of 16 bands by 16 frames, 10 apart: 12 along frequency, 101 along time, after
two tokens that stand for the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from embed.encoders.kaldi import FMAX, FMIN, FRAME, HOP, Fbank
from embed.encoders.patch_transformer import PatchTransformer
from embed.encoders.transformer import Block, Stack, layer_norm, patches
from embed.pretrained import SEED, without_tf32
from fetch.reading import check_tensors, read_json, read_tensors

N_WHOLE = 2  # tokens that stand for the whole spectrogram: class and distillation

LARGEST = {"num_hidden_layers": 1000, "num_mel_bins": 10_000, "max_length": 10_000}
"""Settings that take time or memory before the tensors are compared with them."""
LARGEST_FLOAT = 1e6

PARTS = {
    "project": "attention.output.dense",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
}
ATTENTION = ("query", "key", "value")
PREFIX = "audio_spectrogram_transformer."
MODEL_TYPE = "audio-spectrogram-transformer"


@dataclass(frozen=True, kw_only=True)
class AstConfig:
    """Settings in `config.json` and `preprocessor_config.json`, under the same names."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    qkv_bias: bool = True
    patch_size: int = 16
    frequency_stride: int = 10
    time_stride: int = 10
    max_length: int = 1024
    num_mel_bins: int = 128
    sampling_rate: int = 16_000
    do_normalize: bool = True
    mean: float = -4.2677393
    std: float = 4.5689974

    @property
    def n_bands(self) -> int:
        return (self.num_mel_bins - self.patch_size) // self.frequency_stride + 1

    def n_columns(self, n_frames: int) -> int:
        """Count the patches along time that lie within `n_frames` frames; at least one."""
        return max(0, n_frames - self.patch_size) // self.time_stride + 1

    @property
    def n_tokens(self) -> int:
        return N_WHOLE + self.n_bands * self.n_columns(self.max_length)


def read_settings(folder: Path) -> AstConfig:
    """Read a `save_pretrained` folder's settings; those that are absent have AudioSet's values.

    ValueError for another type of model, and for values that this code does not support.
    """
    config = read_json(folder / "config.json")
    if config.get("model_type") != MODEL_TYPE:
        raise ValueError(
            f"{folder} holds a model of type {config.get('model_type')!r}, expected {MODEL_TYPE!r}"
        )
    if (folder / "preprocessor_config.json").is_file():
        front_end = read_json(folder / "preprocessor_config.json")
        for name in ("max_length", "num_mel_bins"):
            if name in config and front_end.get(name, config[name]) != config[name]:
                raise ValueError(
                    f"{folder}: config.json and preprocessor_config.json differ in {name} "
                    f"({config[name]} and {front_end[name]})"
                )
        config = {**front_end, **config}
    known = {f.name: config[f.name] for f in fields(AstConfig) if f.name in config}
    for name, value in known.items():
        own = getattr(AstConfig, name)  # of the type that belongs here
        if not _is_like(value, own):
            raise ValueError(f"{folder} has {name} {value!r}, expected one such as {own!r}")
    settings = AstConfig(**known)
    for name, largest in LARGEST.items():
        if (value := getattr(settings, name)) > largest:
            raise ValueError(f"{folder} has {name} {value:,}, expected at most {largest:,}")
    if settings.hidden_size % settings.num_attention_heads:
        raise ValueError(
            f"{folder} divides hidden_size {settings.hidden_size} among "
            f"{settings.num_attention_heads} attention heads, expected a divisor of it"
        )
    for name, only in (("hidden_act", "gelu"), ("sampling_rate", 16_000)):
        if getattr(settings, name) != only:
            raise ValueError(
                f"{folder} asks for {name} {getattr(settings, name)!r}, supported is {only!r}"
            )
    return settings


def _is_like(value: Any, own: Any) -> bool:
    """Say whether a value has the type and, if it is a number, the sign and bounds of another."""
    if type(own) is float:
        is_number = type(value) in (int, float) and abs(value) < LARGEST_FLOAT
        return is_number and (own < 0 or value > 0)
    return type(value) is type(own) and (type(own) is not int or value >= 1)


def expected_shapes(settings: AstConfig) -> dict[str, tuple[int, ...]]:
    """List the published tensors that the embedding needs."""
    d, wide = settings.hidden_size, settings.intermediate_size
    patch = (1, settings.patch_size, settings.patch_size)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, d),
        "embeddings.distillation_token": (1, 1, d),
        "embeddings.position_embeddings": (1, settings.n_tokens, d),
        "embeddings.patch_embeddings.projection.weight": (d, *patch),
        "embeddings.patch_embeddings.projection.bias": (d,),
    }
    for i in range(settings.num_hidden_layers):
        layer = f"encoder.layer.{i}"
        for name in ATTENTION:
            shapes[f"{layer}.attention.attention.{name}.weight"] = (d, d)
            if settings.qkv_bias:
                shapes[f"{layer}.attention.attention.{name}.bias"] = (d,)
        for name, n_out, n_in in (
            ("attention.output.dense", d, d),
            ("intermediate.dense", wide, d),
            ("output.dense", d, wide),
        ):
            shapes[f"{layer}.{name}.weight"] = (n_out, n_in)
            shapes[f"{layer}.{name}.bias"] = (n_out,)
        for name in ("layernorm_before", "layernorm_after"):
            shapes |= {f"{layer}.{name}.weight": (d,), f"{layer}.{name}.bias": (d,)}
    return shapes | {"layernorm.weight": (d,), "layernorm.bias": (d,)}


def random_tensors(settings: AstConfig, seed: int = SEED) -> dict[str, Tensor]:
    """Draw weights that keep the signal's scale, under the published names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in expected_shapes(settings).items():
        noise = torch.randn(shape, generator=generator)
        if "layernorm" in name and name.endswith("weight"):
            tensors[name] = 1 + 0.1 * noise
        elif name.endswith("weight"):
            tensors[name] = noise / noise[0].numel() ** 0.5
        else:
            tensors[name] = 0.1 * noise
    return tensors


def load_tensors(path: Path, settings: AstConfig) -> dict[str, Tensor]:
    """Read a checkpoint file, of the network alone or with a classifier on top of it."""
    tensors = {name.removeprefix(PREFIX): t for name, t in read_tensors(path).items()}
    what = f"AST ({settings.num_hidden_layers} layers, {settings.hidden_size}-d)"
    check_tensors(tensors, expected_shapes(settings), path, what)
    return tensors


def block_of(settings: AstConfig, tensors: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    """Return the tensors of a layer under the names of `Block`."""
    layer = f"encoder.layer.{i}"
    parts = {
        f"{ours}.{kind}": tensors[f"{layer}.{theirs}.{kind}"]
        for ours, theirs in PARTS.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias") if settings.qkv_bias else ("weight",):
        names = (f"{layer}.attention.attention.{part}.{kind}" for part in ATTENTION)
        parts[f"qkv.{kind}"] = torch.cat([tensors[name] for name in names])
    return parts


class Network(Stack):
    """Normalised log-mel `(n, max_length, n_mels)` to tokens, those of the whole first."""

    place: Tensor
    whole: Tensor

    def __init__(
        self, settings: AstConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype
    ) -> None:
        eps = settings.layer_norm_eps
        blocks = (
            Block(
                block_of(settings, tensors, i),
                n_heads=settings.num_attention_heads,
                eps=eps,
                dtype=dtype,
            )
            for i in range(settings.num_hidden_layers)
        )
        super().__init__(blocks, layer_norm(tensors, "layernorm", eps))
        self.dtype = dtype
        place = tensors["embeddings.position_embeddings"]
        whole = [tensors[f"embeddings.{name}_token"] for name in ("cls", "distillation")]
        self.register_buffer("whole", torch.cat(whole, dim=1) + place[:, :N_WHOLE])
        self.register_buffer("place", place[:, N_WHOLE:].clone())
        name = "embeddings.patch_embeddings.projection"
        stride = (settings.frequency_stride, settings.time_stride)
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        self.patches = patches(weight, bias, dtype, stride)

    def embed(self, spectrogram: Tensor) -> Tensor:
        image = spectrogram.to(self.dtype).unsqueeze(1).transpose(2, 3)  # (n, 1, n_mels, t)
        x = self.patches(image).flatten(2).transpose(1, 2) + self.place
        return torch.cat([self.whole.expand(x.shape[0], -1, -1), x], dim=1)


@dataclass(frozen=True, kw_only=True)
class SpectrogramTransformer(PatchTransformer):
    """AST: `clip` and `cls` (n, 768), `bands` (n, 12, 768), `frames` (n, t, 768).

    `clip` is the mean of the two whole-spectrogram tokens, `cls` the first of them. `frames` are
    the patches averaged over frequency, one per 0.1 s (99 for 10 s), `bands` over time; patches
    that reach into the zero padding are left out of both. A clip of more than 1024 frames
    (164,239 samples) is cut into windows of 1024, the last one moved back to end with the clip,
    and their vectors are averaged; `frames` then follow one another without the overlap. `layer`
    is the layer whose tokens are taken, 1 to 12; of 12 they have passed the last norm.
    """

    outputs: ClassVar[tuple[str, ...]] = ("clip", "cls", "bands", "frames", "map")
    n_whole: ClassVar[int] = N_WHOLE
    frame: ClassVar[int] = FRAME

    @property
    def min_samples(self) -> int:
        return FRAME  # one frame, padded

    @property
    def longest(self) -> int:
        return self.settings.max_length

    @property
    def n_bands(self) -> int:
        return self.settings.n_bands

    @property
    def stride(self) -> int:
        return self.settings.time_stride

    def n_columns(self, n_frames: int) -> int:
        return self.settings.n_columns(n_frames)

    @cached_property
    def settings(self) -> AstConfig:
        """Settings of the checkpoint's folder; of a single file, AudioSet's."""
        checkpoint = self.checkpoint
        is_folder = checkpoint is not None and checkpoint.path.is_dir()
        return read_settings(checkpoint.path) if checkpoint and is_folder else AstConfig()

    @property
    def layers(self) -> range:
        return range(1, self.settings.num_hidden_layers + 1)

    def build(self) -> tuple[nn.Module, Stack]:
        checkpoint, settings = self.checkpoint, self.settings
        if checkpoint is None:
            tensors = random_tensors(settings)
        else:
            path = checkpoint.path
            file = path / "model.safetensors" if path.is_dir() else path
            tensors = load_tensors(file, settings)
        mean, std = (settings.mean, settings.std) if settings.do_normalize else (0.0, 0.5)
        front_end = Fbank(
            n_bands=settings.num_mel_bins, mean=mean, std=std, n_frames=settings.max_length
        )
        return front_end, Network(settings, tensors, self.dtype)

    @torch.inference_mode()
    def attention(self, waveform: np.ndarray) -> Iterator[np.ndarray]:
        """Yield each layer's attention for one clip of one window, first layer first.

        Arrays are `(n_heads, n_tokens, n_tokens)`, rows sum to one, 71 MB each; only one is held
        at a time.
        """
        if len(waveform) < FRAME:
            raise ValueError(f"attention needs at least {FRAME} samples; got {len(waveform):,}")
        if len(self.windows(len(waveform))) > 1:
            longest = (self.settings.max_length - 1) * HOP + FRAME + HOP - 1
            raise ValueError(
                f"attention is of one window, at most {longest:,} samples; got {len(waveform):,}: "
                "cut the clip"
            )
        front_end, network, _ = self._parts
        samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        with without_tf32():
            x = network.embed(front_end(samples.unsqueeze(0).to(self.device)))
        for block in network.blocks:
            with without_tf32():
                x, attention = block.attention(x)  # type: ignore[operator]
            yield attention[0].cpu().numpy()

    def attention_map(self, waveform: np.ndarray) -> np.ndarray:
        """Say where the class token looks in a clip: `(n_columns, n_bands)`, low bands first.

        Attention rollout (Abnar and Zuidema, "Quantifying attention flow in transformers", ACL
        2020): each layer's attention, averaged over the heads and with the residual path as half
        of it, is multiplied through all layers. Only the first window of a longer clip is seen, and
        patches in the padding are left out.
        """
        start, stop = self.windows(len(waveform))[0]
        settings = self.settings
        layers = [layer.mean(axis=0) for layer in self.attention(waveform[start:stop])]
        flow = np.zeros(len(layers[0]), dtype=np.float64)
        flow[0] = 1.0
        for layer in reversed(layers):  # the class token's row alone, from the last layer back
            flow = 0.5 * flow + 0.5 * (flow @ layer)
        patches = flow[N_WHOLE:].reshape(settings.n_bands, -1)
        n_columns = settings.n_columns(1 + (stop - start - FRAME) // HOP)
        return patches[:, :n_columns].T

    @property
    def patch_centres_hz(self) -> np.ndarray:
        """Say around which frequency each row of patches lies, `(n_bands,)`."""
        settings = self.settings
        low, high = (1127 * np.log1p(hz / 700) for hz in (FMIN, FMAX))
        middle = (settings.patch_size + 1) / 2  # of the first row, in mel bands from 1
        bands = middle + settings.frequency_stride * np.arange(settings.n_bands)
        mels = low + (high - low) * bands / (settings.num_mel_bins + 1)
        return np.asarray(700 * np.expm1(mels / 1127))
