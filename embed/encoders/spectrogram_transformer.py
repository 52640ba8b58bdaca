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
from torch.nn import functional

from embed.encoders.band_power import htk_filters
from embed.pretrained import SEED, PretrainedNetwork, compile_for, without_tf32
from fetch.reading import check_tensors, read_json, read_tensors

FRAME, HOP, N_FFT = 400, 160, 512
FMIN, FMAX = 20.0, 8000.0
PREEMPHASIS = 0.97
LOG_FLOOR = 1.192092955078125e-07
N_WHOLE = 2  # tokens that stand for the whole spectrogram: class and distillation

LARGEST = {"num_hidden_layers": 1000, "num_mel_bins": 10_000, "max_length": 10_000}
"""Settings that take time or memory before the tensors are compared with them."""
LARGEST_FLOAT = 1e6

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
        for name in ("query", "key", "value"):
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


class FrontEnd(nn.Module):
    """Waveforms `(n, n_samples)` to normalised log-mel `(n, max_length, n_mels)`, zero-padded.

    Computed in float64: in float32, pure tones and square waves miss the reference by 5e-4.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, settings: AstConfig) -> None:
        super().__init__()
        self.settings = settings
        window = torch.hann_window(FRAME, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window)
        mel = htk_filters(16_000, N_FFT, settings.num_mel_bins, FMIN, FMAX)  # as Kaldi's
        self.register_buffer("mel", torch.from_numpy(mel))

    def forward(self, waveforms: Tensor) -> Tensor:
        # one waveform at a time fits into a CPU's cache; a GPU is faster with all of them
        if waveforms.device.type == "cpu" and len(waveforms) > 1:
            return torch.cat([self.forward(one) for one in torch.split(waveforms, 1)])
        frames = waveforms.double().unfold(1, FRAME, HOP)  # (n, n_frames, FRAME)
        frames = frames - frames.mean(dim=2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - PREEMPHASIS * before) * self.window
        spectrum = torch.view_as_real(torch.fft.rfft(frames, N_FFT))
        power = spectrum.square().sum(dim=-1)
        log_mel = (power @ self.mel).clamp(min=LOG_FLOOR).log().float()
        settings = self.settings
        padded = functional.pad(log_mel, (0, 0, 0, settings.max_length - log_mel.shape[1]))
        return (padded - settings.mean) / (2 * settings.std) if settings.do_normalize else padded


class Block(nn.Module):
    """One layer: attention, then two linear maps, each added to its input.

    Tokens stay float32; the matrix products run in `dtype`.
    """

    def __init__(
        self, settings: AstConfig, tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.n_heads = settings.num_attention_heads
        eps = settings.layer_norm_eps
        self.norm1 = _layer_norm(tensors, f"{name}.layernorm_before", eps)
        self.norm2 = _layer_norm(tensors, f"{name}.layernorm_after", eps)
        parts = [f"{name}.attention.attention.{part}" for part in ("query", "key", "value")]
        self.qkv = _linear(
            torch.cat([tensors[f"{part}.weight"] for part in parts]),
            torch.cat([tensors[f"{part}.bias"] for part in parts]) if settings.qkv_bias else None,
            dtype,
        )
        self.project, self.widen, self.narrow = (
            _linear(tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"], dtype)
            for part in ("attention.output.dense", "intermediate.dense", "output.dense")
        )

    def forward(self, x: Tensor, n_kept: int) -> Tensor:
        """Compute the first `n_kept` tokens of the layer's output, `(n, n_kept, d)`."""
        query, key, value = self._heads(x, n_kept)
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self._add(x[:, :n_kept], attended)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the layer's output and its attention, `(n, n_heads, n_tokens, n_tokens)`."""
        query, key, value = self._heads(x, x.shape[1])
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        attention = scores.float().softmax(dim=3)
        return self._add(x, attention.to(self.dtype) @ value), attention

    def _heads(self, x: Tensor, n_kept: int) -> tuple[Tensor, Tensor, Tensor]:
        d = x.shape[2]
        x = self.norm1(x).to(self.dtype)
        if n_kept == x.shape[1]:
            query, key, value = torch.split(self.qkv(x), d, dim=2)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            query = functional.linear(x[:, :n_kept], weight[:d], None if bias is None else bias[:d])
            rest = functional.linear(x, weight[d:], None if bias is None else bias[d:])
            key, value = torch.split(rest, d, dim=2)
        n, n_heads = x.shape[0], self.n_heads
        query, key, value = (
            part.view(n, -1, n_heads, d // n_heads).transpose(1, 2) for part in (query, key, value)
        )
        return query, key, value

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.project(attended.transpose(1, 2).flatten(2))
        added: Tensor = x + self.narrow(functional.gelu(self.widen(self.norm2(x).to(self.dtype))))
        return added


class Network(nn.Module):
    """Normalised log-mel `(n, max_length, n_mels)` to tokens after the last norm."""

    position: Tensor
    whole: Tensor

    def __init__(
        self, settings: AstConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.dtype = dtype
        position = tensors["embeddings.position_embeddings"]
        whole = [tensors[f"embeddings.{name}_token"] for name in ("cls", "distillation")]
        self.register_buffer("whole", torch.cat(whole, dim=1) + position[:, :N_WHOLE])
        self.register_buffer("position", position[:, N_WHOLE:].clone())
        stride = (settings.frequency_stride, settings.time_stride)
        self.patches = nn.Conv2d(
            1, settings.hidden_size, settings.patch_size, stride, device="meta", dtype=dtype
        )
        name = "embeddings.patch_embeddings.projection"
        self.patches.weight = _fixed(tensors[f"{name}.weight"], dtype)
        self.patches.bias = _fixed(tensors[f"{name}.bias"], dtype)
        self.blocks = nn.ModuleList(
            Block(settings, tensors, f"encoder.layer.{i}", dtype)
            for i in range(settings.num_hidden_layers)
        )
        self.norm = _layer_norm(tensors, "layernorm", settings.layer_norm_eps)

    def embed(self, log_mel: Tensor) -> Tensor:
        """Return the tokens before the first layer, `(n, n_tokens, d)`."""
        image = log_mel.to(self.dtype).unsqueeze(1).transpose(2, 3)  # (n, 1, n_mels, max_length)
        patches = self.patches(image).flatten(2).transpose(1, 2)
        whole = self.whole.expand(log_mel.shape[0], -1, -1)
        return torch.cat([whole, patches + self.position], dim=1)

    def forward(self, log_mel: Tensor, n_kept: int) -> Tensor:
        """Return the first `n_kept` tokens; the last layer computes no others."""
        x = self.embed(log_mel)
        last = len(self.blocks) - 1
        for i, block in enumerate(self.blocks):
            x = block(x, n_kept if i == last else x.shape[1])
        normed: Tensor = self.norm(x[:, :n_kept])
        return normed


def _fixed(tensor: Tensor, dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(tensor.to(dtype), requires_grad=False)


def _linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    n_out, n_in = weight.shape
    linear = nn.Linear(n_in, n_out, bias=bias is not None, device="meta", dtype=dtype)
    linear.weight = _fixed(weight, dtype)
    if bias is not None:
        linear.bias = _fixed(bias, dtype)
    return linear


def _layer_norm(tensors: Mapping[str, Tensor], name: str, eps: float) -> nn.LayerNorm:
    norm = nn.LayerNorm(len(tensors[f"{name}.weight"]), eps, device="meta")
    norm.weight = _fixed(tensors[f"{name}.weight"], torch.float32)
    norm.bias = _fixed(tensors[f"{name}.bias"], torch.float32)
    return norm


@dataclass(frozen=True, kw_only=True)
class SpectrogramTransformer(PretrainedNetwork):
    """AST: `clip` and `cls` (n, 768), `bands` (n, 12, 768), `frames` (n, t, 768).

    `clip` is the mean of the two whole-spectrogram tokens, `cls` the first of them. `frames` are
    the patches averaged over frequency, one per 0.1 s (99 for 10 s), `bands` over time; patches
    that reach into the zero padding are left out of both. A clip of more than 1024 frames
    (164,239 samples) is cut into windows of 1024, the last one moved back to end with the clip,
    and their vectors are averaged; `frames` then follow one another without the overlap.
    """

    sample_rate: int = 16_000

    native_rate: ClassVar[int] = 16_000
    outputs: ClassVar[tuple[str, ...]] = ("clip", "cls", "bands", "frames")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 64}

    @property
    def min_samples(self) -> int:
        return FRAME

    @cached_property
    def settings(self) -> AstConfig:
        """Settings of the checkpoint's folder; of a single file, AudioSet's."""
        checkpoint = self.checkpoint
        is_folder = checkpoint is not None and checkpoint.path.is_dir()
        return read_settings(checkpoint.path) if checkpoint and is_folder else AstConfig()

    @cached_property
    def _parts(self) -> tuple[FrontEnd, Network, Any]:
        checkpoint, settings = self.checkpoint, self.settings
        if checkpoint is None:
            tensors = random_tensors(settings)
        else:
            path = checkpoint.path
            file = path / "model.safetensors" if path.is_dir() else path
            tensors = load_tensors(file, settings)
        network = Network(settings, tensors, self.dtype)
        run = compile_for(network, self)
        return FrontEnd(settings).to(self.device), network, run

    def windows(self, n_samples: int) -> list[tuple[int, int]]:
        """List the windows of a clip as samples, start and stop."""
        n_frames, longest = 1 + (n_samples - FRAME) // HOP, self.settings.max_length
        if n_frames <= longest:
            return [(0, n_samples)]
        starts = [*range(0, n_frames - longest, longest), n_frames - longest]
        length = (longest - 1) * HOP + FRAME
        return [(start * HOP, start * HOP + length) for start in starts]

    def features(self, waveforms: Tensor) -> Tensor:
        """Return the input of the network for waveforms of one window, `(n, 1024, 128)`."""
        with without_tf32():
            return self._parts[0](waveforms)  # type: ignore[no-any-return]

    @without_tf32()
    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        windows = self.windows(waveforms.shape[1])
        rows = torch.stack([waveforms[:, start:stop] for start, stop in windows], dim=1)
        at_once = max(len(waveforms), self.batch_size[waveforms.device.type])
        parts = [self._encode(part, wanted) for part in torch.split(rows.flatten(0, 1), at_once)]
        outputs = {
            name: torch.unflatten(torch.cat([part[name] for part in parts]), 0, rows.shape[:2])
            for name in parts[0]
        }
        return {
            name: self._in_a_row(output, windows) if name == "frames" else output.mean(dim=1)
            for name, output in outputs.items()
        }

    def _encode(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Compute the wanted outputs of waveforms of one window each."""
        front_end, _, run = self._parts
        settings = self.settings
        pruned = wanted <= {"clip", "cls"}
        tokens = run(front_end(waveforms), N_WHOLE if pruned else settings.n_tokens).float()
        outputs = {"clip": tokens[:, :N_WHOLE].mean(dim=1), "cls": tokens[:, 0]}
        if not pruned:
            patches = torch.unflatten(tokens[:, N_WHOLE:], 1, (settings.n_bands, -1))
            n_frames = 1 + (waveforms.shape[1] - FRAME) // HOP
            patches = patches[:, :, : settings.n_columns(n_frames)]  # without the padding
            outputs |= {"bands": patches.mean(dim=2), "frames": patches.mean(dim=1)}
        return {name: outputs[name] for name in wanted}

    def _in_a_row(self, frames: Tensor, windows: list[tuple[int, int]]) -> Tensor:
        """Join `(n, n_windows, t, d)` along time, without frames that the last window repeats."""
        if len(windows) == 1:
            return frames[:, 0]
        step = self.settings.time_stride * HOP
        end_of_last_but_one = windows[-2][0] + (frames.shape[2] - 1) * step
        first_new = max(0, (end_of_last_but_one - windows[-1][0]) // step + 1)
        return torch.cat([frames[:, :-1].flatten(1, 2), frames[:, -1, first_new:]], dim=1)

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
