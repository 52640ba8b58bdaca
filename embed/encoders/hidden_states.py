"""Hidden states of transformers' audio models: the output of one layer, time kept."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from embed.encoders.transformers_models import (
    LARGEST_SETTING,
    MOST_LAYERS,
    build,
    one_line,
    read_checkpoint,
    read_config,
    read_extractor,
)
from embed.layers import LAST, Layer, LayeredNetwork
from embed.pretrained import compile_for, without_tf32

AST_FRAME, AST_HOP = 400, 160
AST_N_WHOLE = 2  # tokens that stand for the whole spectrogram
CLASS_TOKEN_FIRST = ("pe_audio", "pe_audio_encoder")
"""Types of models that leave a class token out of the last hidden state, but of no other layer."""


@dataclass(frozen=True, kw_only=True)
class HiddenStates(LayeredNetwork):
    """`frames` (n, t, d) are the hidden states of one layer, `clip` their mean over time.

    `layer` is -1 or "last", the last hidden state as the model returns it, 0 (the input of the
    first layer) or 1, 2, ... (the output of that layer; of the last one, the last hidden state).
    Only the layers up to it are computed.
    Extractors that pad to a fixed length (Whisper 30 s, CLAP 10 s, AST 1024 frames) get windows
    of at most that length; the last one is moved back to end with the clip. Frames that are
    padding, or that the last window repeats, are left out.
    """

    layer: Layer = LAST

    outputs: ClassVar[tuple[str, ...]] = ("frames", "clip")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 32}

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """Folder of the settings; None where the class knows them."""

    @cached_property
    def config(self) -> Any:
        """Configuration of the network, as transformers reads it."""
        assert self.folder is not None
        return read_config(self.folder, self.display_name)

    @cached_property
    def extractor(self) -> Any:
        """The feature extractor between waveform and network, as transformers reads it."""
        assert self.folder is not None
        return read_extractor(self.folder, self.display_name)

    @property
    def sample_rate(self) -> int:
        return int(self.extractor.sampling_rate)

    @property
    def min_samples(self) -> int:
        config, extractor = self.config, self.extractor
        with one_line(f"the settings of {self.display_name} cannot be used"):
            least = least_samples(config, extractor)
            if not 0 < least <= LARGEST_SETTING:
                raise ValueError(f"the shortest clip would have {least:,} samples")
        return least

    @property
    def layers(self) -> range:
        """Those that the settings state; where they state none, the network refuses others."""
        names = ("encoder_num_hidden_layers", "num_hidden_layers")  # of Moonshine, of the others
        found = (getattr(self.config, name) for name in names if hasattr(self.config, name))
        n_layers = next(found, None)
        if type(n_layers) is not int or self.config.model_type == "clap":
            return range(MOST_LAYERS)
        return range(n_layers + 1)

    @cached_property
    def _networks(self) -> dict[tuple[int, ...], Any]:
        return {}

    def _network(self, layers: tuple[int, ...]) -> Any:
        """Load the network up to the highest of some layers, once."""
        if layers not in self._networks:
            self._networks[layers] = self._load(layers)
        return self._networks[layers]

    def _load(self, layers: tuple[int, ...]) -> Any:
        checkpoint = self.checkpoint
        tensors = None if checkpoint is None else read_checkpoint(checkpoint.path)
        where = self.display_name if checkpoint is None else str(checkpoint.path)
        model = build(self.config, tensors, where)
        return compile_for(Layers(model, self.config, layers, self.dtype), self)

    def features(self, waveforms: Tensor) -> Tensor:
        """Return the input of the network, in float32 on the device."""
        from transformers import Wav2Vec2FeatureExtractor

        if isinstance(self.extractor, Wav2Vec2FeatureExtractor):
            return normalised(waveforms) if self.extractor.do_normalize else waveforms
        features = self.extractor(
            list(waveforms.cpu().numpy()), sampling_rate=self.sample_rate, return_tensors="pt"
        )
        name = "input_features" if "input_features" in features else "input_values"
        values, mask = features[name].float(), features.get("attention_mask")
        if mask is not None and mask.shape[1] == values.shape[1]:  # clips are of equal length
            values = values[:, : int(mask[0].sum())]
        return values.to(waveforms.device)  # type: ignore[no-any-return]

    @without_tf32()
    def forward_layers(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        """Compute the hidden states of the wanted layers, window by window."""
        n_samples = waveforms.shape[1]
        with one_line(f"{self.display_name} cannot encode clips of {n_samples} samples"):
            run, windows = self._network(tuple(wanted)), self.windows(n_samples)
            parts: list[list[Tensor]] = [[] for _ in wanted]
            for before, (start, stop) in zip([0, *(w[1] for w in windows)], windows, strict=False):
                hidden = run(self.features(waveforms[:, start:stop]))
                for part, states in zip(parts, hidden, strict=True):
                    n_valid = self._n_valid(states.shape[1], stop - start)
                    new = math.ceil(n_valid * (stop - before) / (stop - start))
                    part.append(states[:, n_valid - new : n_valid].float())
        frames = [torch.cat(part, dim=1) for part in parts]
        return {
            layer: {"frames": states, "clip": states.mean(dim=1)}
            for layer, states in zip(wanted, frames, strict=True)
        }

    def windows(self, n_samples: int) -> list[tuple[int, int]]:
        """List the windows of a clip as samples, start and stop."""
        longest = longest_samples(self.extractor) or n_samples
        if n_samples <= longest:
            return [(0, n_samples)]
        starts = [*range(0, n_samples - longest, longest), n_samples - longest]
        return [(start, start + longest) for start in starts]

    def _n_valid(self, n_frames: int, n_samples: int) -> int:
        """Count the frames of a window that are not the extractor's padding; at least one."""
        longest = longest_samples(self.extractor)
        if not longest:
            return n_frames
        if self.config.model_type == "audio-spectrogram-transformer":
            n_mel = 1 + (n_samples - AST_FRAME) // AST_HOP
            return int(max(0, n_mel - self.config.patch_size) // self.config.time_stride) + 1
        return max(1, math.ceil(n_frames * n_samples / longest))


class Layers(nn.Module):
    """Features to the hidden states of some layers, lowest first, `(n, t, d)` each in `dtype`."""

    def __init__(
        self, model: nn.Module, config: Any, layers: Sequence[int], dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.model = fixed(model).to(dtype)
        self.config = config
        self.dtype = dtype
        self.seen: dict[int, Any] = {}
        self.wanted = tuple(layers)
        if self.wanted != (LAST,):
            self._tap()

    def _tap(self) -> None:
        """Record the outputs of the wanted layers, and remove the layers above them."""
        if self.config.model_type == "clap":
            raise ValueError(
                f"layer {self.wanted[0]}: the stages of CLAP have maps of several sizes, layer is "
                "-1"
            )
        name, layers = layers_of(self.model)
        numbers = [len(layers) if layer == LAST else layer for layer in self.wanted]
        if above := [layer for layer in numbers if layer > len(layers)]:
            raise ValueError(
                f"layer {above[0]}: this {self.config.model_type} has {len(layers)} layers, so "
                f"layer is -1 (the last hidden state) or 0 to {len(layers)}"
            )
        self.wanted = tuple(LAST if number == len(layers) else number for number in numbers)
        for number in {*self.wanted} - {LAST}:
            if number:
                layers[number - 1].register_forward_hook(partial(self._listen, number))
            else:
                layers[0].register_forward_pre_hook(self._listen_before, with_kwargs=True)
        parent, _, own = name.rpartition(".")
        setattr(self.model.get_submodule(parent), own, layers[: max(1, *numbers)])

    def _listen(self, number: int, module: nn.Module, inputs: Any, output: Any) -> None:
        self.seen[number] = output[0] if isinstance(output, tuple) else output

    def _listen_before(self, module: nn.Module, inputs: Any, named: Any) -> None:
        self.seen[0] = inputs[0] if inputs else named["hidden_states"]

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        self.seen.clear()
        values = values.to(self.dtype)
        if self.config.model_type == "clap":  # is_longer is False: windows have the fixed length
            is_longer = torch.zeros(values.shape[0], 1, dtype=torch.bool, device=values.device)
            output = self.model(values, is_longer=is_longer)
        else:
            output = self.model(values)
        self.seen[LAST] = getattr(output, "last_hidden_state", None)
        for number in {*self.wanted} - {LAST}:
            if self.config.model_type in CLASS_TOKEN_FIRST:
                self.seen[number] = self.seen[number][:, 1:]
        states = tuple(self._in_time(self.seen[number]) for number in self.wanted)
        self.seen.clear()
        return states

    def _in_time(self, hidden: Tensor | None) -> Tensor:
        """Average maps over frequency; ValueError for what is no `(n, t, d)` then."""
        if hidden is not None:
            hidden = self._averaged(hidden)
        if hidden is None or hidden.ndim != 3:
            raise ValueError(
                f"a model of type {self.config.model_type!r} gives no hidden states (n, t, d)"
            )
        return hidden

    def _averaged(self, hidden: Tensor) -> Tensor:
        if self.config.model_type == "clap":  # (n, d, frequency, t)
            return hidden.mean(dim=2).transpose(1, 2)
        if self.config.model_type == "audio-spectrogram-transformer":  # (n, 2 + frequency * t, d)
            bands = self.config.num_mel_bins - self.config.patch_size
            n_bands = bands // self.config.frequency_stride + 1
            return torch.unflatten(hidden[:, AST_N_WHOLE:], 1, (n_bands, -1)).mean(dim=1)
        return hidden


def normalised(waveforms: Tensor) -> Tensor:
    """Shift and scale each waveform to mean 0 and variance 1, silence to 0; computed in float64."""
    samples = waveforms.double()
    variance, mean = torch.var_mean(samples, dim=1, correction=0, keepdim=True)
    return ((samples - mean) / (variance + 1e-7).sqrt()).float()


def longest_samples(extractor: Any) -> int:
    """Return the longest waveform, in samples, that an extractor takes whole; 0 for no limit.

    It pads every waveform to that length, so ValueError for more than ten minutes.
    """
    from transformers import ASTFeatureExtractor, ClapFeatureExtractor, WhisperFeatureExtractor

    longest = 0
    if isinstance(extractor, WhisperFeatureExtractor):
        longest = int(extractor.n_samples)
    elif isinstance(extractor, ClapFeatureExtractor):
        longest = int(extractor.nb_max_samples)
    elif isinstance(extractor, ASTFeatureExtractor):
        longest = int(extractor.max_length) * AST_HOP + AST_FRAME - 1
    if longest > LARGEST_SETTING:
        raise ValueError(f"the feature extractor pads to {longest:,} samples")
    return longest


def least_samples(config: Any, extractor: Any) -> int:
    """Return the shortest waveform, in samples, that gives a frame; 0.1 s where it is not known."""
    from transformers import (
        ASTFeatureExtractor,
        ClapFeatureExtractor,
        LasrFeatureExtractor,
        SeamlessM4TFeatureExtractor,
        Wav2Vec2FeatureExtractor,
        WhisperFeatureExtractor,
    )

    if isinstance(extractor, LasrFeatureExtractor):
        size, stride = config.subsampling_conv_kernel_size, config.subsampling_conv_stride
        n_frames = (size - 1) * stride + size  # two convolutions over time
        return int((n_frames - 1) * extractor.hop_length + extractor.win_length)
    if isinstance(extractor, Wav2Vec2FeatureExtractor) and hasattr(config, "conv_kernel"):
        n: int = getattr(config, "squeeze_factor", 1)  # SEW averages frames in pairs
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            n = (n - 1) * stride + kernel
        return int(n)
    if isinstance(extractor, ASTFeatureExtractor):
        return AST_FRAME
    if isinstance(extractor, SeamlessM4TFeatureExtractor):
        return 400 + 160 * max(1, int(extractor.stride) - 1)  # normalised over time: two frames
    if isinstance(extractor, ClapFeatureExtractor):
        return int(extractor.fft_window_size)
    is_whisper = isinstance(extractor, WhisperFeatureExtractor)
    return int(extractor.n_fft if is_whisper else extractor.sampling_rate // 10)


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the stack of layers, the outermost list of that name; return its name and the list."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in ("layer", "layers")
    ]
    if not found:
        raise ValueError(f"layer: {type(model).__name__} has no stack of layers, layer is -1")
    return min(found, key=lambda pair: pair[0].count("."))


def fixed(model: nn.Module) -> nn.Module:
    """Compute the weights of weight norms once instead of in each pass."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    return model.eval().requires_grad_(False)
