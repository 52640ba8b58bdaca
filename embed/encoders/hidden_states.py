"""Hidden states of transformers' audio models: one layer's output, time kept.

Settings come from a `save_pretrained` folder: config.json decides the network,
preprocessor_config.json what it is given. Code that such a folder names is never run.
"""

from __future__ import annotations

import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from embed.pretrained import SEED, PretrainedNetwork, ready, without_tf32
from fetch.weights import PREPROCESSORS, checkpoint_files, read_json, read_tensors

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
OF_TRANSFORMERS = (None, "eager", "sdpa")
"""Implementations that transformers itself has; other names can be repositories of compiled code,
which it would fetch and run."""
LAST = -1
AST_FRAME, AST_HOP = 400, 160
AST_N_WHOLE = 2  # tokens that stand for the whole spectrogram
TAKE_TORCHAUDIO = (
    *("audio-spectrogram-transformer", "ASTFeatureExtractor"),
    *("speech_to_text", "Speech2TextFeatureExtractor"),
)


@dataclass(frozen=True, kw_only=True)
class HiddenStates(PretrainedNetwork):
    """`frames` (n, t, d) are the hidden states of one layer, `clip` their mean over time.

    `layer` is -1, the last hidden state as the model returns it, 0 (what the first layer is given)
    or 1, 2, ... (what that layer gives; of the last one, the last hidden state). Only the layers
    up to it are computed.
    Extractors that pad to a fixed length (Whisper 30 s, CLAP 10 s, AST 1024 frames) are given
    windows of at most that length, the last one moved back to end with the clip; frames that are
    padding, or said twice by the last window, are left out.
    """

    layer: int = LAST

    outputs: ClassVar[tuple[str, ...]] = ("frames", "clip")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 32}

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.layer) is not int or self.layer < LAST:
            raise ValueError(f"layer is -1 (the last) or counted from 0, got {self.layer!r}")

    @property
    @abstractmethod
    def folder(self) -> Path | None:
        """Folder of the settings; None where the class knows them."""

    @property
    @abstractmethod
    def called(self) -> str:
        """What the user calls this model, for messages."""

    @cached_property
    def config(self) -> Any:
        """Configuration of the network, as transformers reads it."""
        assert self.folder is not None
        return read_config(self.folder, self.called)

    @cached_property
    def extractor(self) -> Any:
        """What stands between waveform and network, as transformers reads it."""
        assert self.folder is not None
        return read_extractor(self.folder, self.called)

    @property
    def sample_rate(self) -> int:
        return int(self.extractor.sampling_rate)

    @property
    def min_samples(self) -> int:
        return least_samples(self.config, self.extractor)

    @cached_property
    def _run(self) -> Any:
        checkpoint = self.checkpoint
        tensors = None if checkpoint is None else read_checkpoint(checkpoint.path)
        where = self.called if checkpoint is None else str(checkpoint.path)
        model = build(self.config, tensors, where)
        return ready(Layer(model, self.config, self.layer, self.dtype), self)

    def features(self, waveforms: Tensor) -> Tensor:
        """Return what the network is given, in float32 on the device."""
        from transformers import Wav2Vec2FeatureExtractor

        if isinstance(self.extractor, Wav2Vec2FeatureExtractor):
            return normalised(waveforms) if self.extractor.do_normalize else waveforms
        given = self.extractor(
            list(waveforms.cpu().numpy()), sampling_rate=self.sample_rate, return_tensors="pt"
        )
        name = "input_features" if "input_features" in given else "input_values"
        values, mask = given[name].float(), given.get("attention_mask")
        if mask is not None and mask.shape[1] == values.shape[1]:  # clips are of equal length
            values = values[:, : int(mask[0].sum())]
        return values.to(waveforms.device)  # type: ignore[no-any-return]

    @without_tf32()
    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        run, windows = self._run, self.windows(waveforms.shape[1])
        parts = []
        for before, (start, stop) in zip([0, *(w[1] for w in windows)], windows, strict=False):
            with one_line(f"{self.called} cannot encode clips of {waveforms.shape[1]} samples"):
                hidden = run(self.features(waveforms[:, start:stop])).float()
            n_valid = self._n_valid(hidden.shape[1], stop - start)
            new = math.ceil(n_valid * (stop - before) / (stop - start))
            parts.append(hidden[:, n_valid - new : n_valid])
        frames = torch.cat(parts, dim=1)
        outputs = {"frames": frames, "clip": frames.mean(dim=1)}
        return {name: outputs[name] for name in wanted}

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


class Layer(nn.Module):
    """Features to the hidden states of one layer, `(n, t, d)` in `dtype`."""

    def __init__(self, model: nn.Module, config: Any, layer: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = fixed(model).to(dtype)
        self.config = config
        self.dtype = dtype
        self.seen: list[Tensor] = []
        self.taps = layer != LAST and self._tap(layer)

    def _tap(self, layer: int) -> bool:
        """Drop the layers above `layer` and listen to it; False if it is the last anyhow."""
        if self.config.model_type == "clap":
            raise ValueError(
                f"layer {layer}: the stages of CLAP have maps of several sizes, layer is -1"
            )
        name, layers = layers_of(self.model)
        if layer > len(layers):
            raise ValueError(
                f"layer {layer}: this {self.config.model_type} has {len(layers)} layers, so layer "
                f"is -1 (the last hidden state) or 0 to {len(layers)}"
            )
        if layer == len(layers):
            return False
        parent, _, own = name.rpartition(".")
        setattr(self.model.get_submodule(parent), own, layers[: max(1, layer)])
        if layer:
            layers[layer - 1].register_forward_hook(self._listen)
        else:
            layers[0].register_forward_pre_hook(self._listen_before, with_kwargs=True)
        return True

    def _listen(self, module: nn.Module, given: Any, output: Any) -> None:
        self.seen.append(output[0] if isinstance(output, tuple) else output)

    def _listen_before(self, module: nn.Module, given: Any, named: Any) -> None:
        self.seen.append(given[0] if given else named["hidden_states"])

    def forward(self, values: Tensor) -> Tensor:
        self.seen.clear()
        values = values.to(self.dtype)
        if self.config.model_type == "clap":  # is_longer: windows never are
            never = torch.zeros(values.shape[0], 1, dtype=torch.bool, device=values.device)
            output = self.model(values, is_longer=never)
        else:
            output = self.model(values)
        hidden = self.seen.pop() if self.taps else getattr(output, "last_hidden_state", None)
        hidden = None if hidden is None else self._in_time(hidden)
        if hidden is None or hidden.ndim != 3:
            raise ValueError(
                f"a model of type {self.config.model_type!r} gives no hidden states (n, t, d)"
            )
        return hidden

    def _in_time(self, hidden: Tensor) -> Tensor:
        """Average maps over frequency."""
        if self.config.model_type == "clap":  # (n, d, frequency, t)
            return hidden.mean(dim=2).transpose(1, 2)
        if self.config.model_type == "audio-spectrogram-transformer":  # (n, 2 + frequency * t, d)
            bands = self.config.num_mel_bins - self.config.patch_size
            n_bands = bands // self.config.frequency_stride + 1
            return torch.unflatten(hidden[:, AST_N_WHOLE:], 1, (n_bands, -1)).mean(dim=1)
        return hidden


def normalised(waveforms: Tensor) -> Tensor:
    """Shift and scale each waveform to mean 0 and variance 1, silence to 0; float64 inside."""
    samples = waveforms.double()
    variance, mean = torch.var_mean(samples, dim=1, correction=0, keepdim=True)
    return ((samples - mean) / (variance + 1e-7).sqrt()).float()


def longest_samples(extractor: Any) -> int:
    """Longest waveform that an extractor takes whole; 0 where there is no limit."""
    from transformers import ASTFeatureExtractor, ClapFeatureExtractor, WhisperFeatureExtractor

    if isinstance(extractor, WhisperFeatureExtractor):
        return int(extractor.n_samples)
    if isinstance(extractor, ClapFeatureExtractor):
        return int(extractor.nb_max_samples)
    if isinstance(extractor, ASTFeatureExtractor):
        return int(extractor.max_length) * AST_HOP + AST_FRAME - 1
    return 0


def least_samples(config: Any, extractor: Any) -> int:
    """Shortest waveform that gives a frame; 0.1 s where neither side tells."""
    from transformers import (
        ASTFeatureExtractor,
        ClapFeatureExtractor,
        SeamlessM4TFeatureExtractor,
        Wav2Vec2FeatureExtractor,
        WhisperFeatureExtractor,
    )

    if isinstance(extractor, Wav2Vec2FeatureExtractor) and hasattr(config, "conv_kernel"):
        n: int = getattr(config, "squeeze_factor", 1)  # SEW averages frames in pairs
        for kernel, stride in zip(config.conv_kernel[::-1], config.conv_stride[::-1], strict=True):
            n = (n - 1) * stride + kernel
        return int(n)
    if isinstance(extractor, ASTFeatureExtractor):
        return AST_FRAME
    if isinstance(extractor, SeamlessM4TFeatureExtractor):
        return 400 + 160 * max(1, int(extractor.stride) - 1)  # normalised over time: two frames
    if isinstance(extractor, WhisperFeatureExtractor):
        return int(extractor.n_fft)
    if isinstance(extractor, ClapFeatureExtractor):
        return int(extractor.fft_window_size)
    return int(extractor.sampling_rate) // 10


def layers_of(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Find the stack of layers: the outermost list of that name."""
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in ("layer", "layers")
    ]
    if not found:
        raise ValueError(f"layer: {type(model).__name__} has no stack of layers, layer is -1")
    return min(found, key=lambda pair: pair[0].count("."))


def fixed(model: nn.Module) -> nn.Module:
    """Multiply weight norms out, once instead of in each pass."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
    return model.eval().requires_grad_(False)


def refuse_code(folder: Path) -> None:
    """Raise if a folder's settings name code of others, or its weights are an adapter or quantised.

    Settings are searched at any depth.
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder / 'adapter_config.json'} is of an adapter: merge it into its model"
        )
    for name in ("config.json", *PREPROCESSORS):
        content = read_json(folder / name) if (folder / name).is_file() else {}
        for part in _objects(content):
            for key, value in part.items():
                asked = list(value.values()) if isinstance(value, dict) else [value]
                is_choice = key.removesuffix("_internal").endswith(IMPLEMENTATIONS)
                if is_choice and any(each not in OF_TRANSFORMERS for each in asked):
                    raise ValueError(
                        f"{folder / name} asks for {key} {value!r}, which can be code from the "
                        "hub and is never run: remove that line, or write 'eager' or 'sdpa'"
                    )
            if "auto_map" in part:
                raise ValueError(
                    f"{folder / name} names code of its own (auto_map), which is never run; only "
                    "models that transformers itself has can be used"
                )
            if part.get("quantization_config"):
                raise ValueError(f"{folder / name}: quantised weights are not supported")


def _objects(content: Any) -> Iterator[dict[str, Any]]:
    """List all objects within JSON, the outermost first."""
    if isinstance(content, dict):
        yield content
    if isinstance(content, (dict, list)):
        for each in content.values() if isinstance(content, dict) else content:
            yield from _objects(each)


INPUTS = {"audio": ("audio", "input_values", "input_features"), "pixels": ("pixel_values",)}


def read_config(folder: Path, called: str, *, takes: str = "audio") -> Any:
    """Read config.json: of a model that transformers itself has and that `takes` this."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig

    refuse_code(folder)
    kind = read_json(folder / "config.json").get("model_type")
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"{called} is of type {kind!r}, which transformers here does not have")
    with one_line(f"{folder / 'config.json'} cannot be used"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = MODEL_MAPPING.get(type(config), None)
        model = model[0] if isinstance(model, tuple) else model
    given = "audio" if kind == "clap" else getattr(model, "main_input_name", "nothing known")
    if given not in INPUTS[takes]:
        raise ValueError(f"{called} is of type {kind!r} and takes {given}, not {takes}")
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        if part is not None:
            part.return_dict = True  # outputs are taken by name
    return config


def read_extractor(folder: Path, called: str) -> Any:
    """Read what prepares audio for a model."""
    from transformers import AutoFeatureExtractor

    config = read_config(folder, called)
    name = next((name for name in PREPROCESSORS if (folder / name).is_file()), "")
    if not name:
        raise ValueError(
            f"{called} has no preprocessor_config.json ({folder}): save its feature extractor there"
        )
    with one_line(f"the feature extractor of {called} cannot be used"):
        extractor: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder / name if name == PREPROCESSORS[0] else folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
        )
    if not isinstance(getattr(extractor, "sampling_rate", None), int):
        raise ValueError(f"{called} has a {type(extractor).__name__}, which takes no audio")
    return extractor


def takes_torchaudio(folder: Path) -> bool:
    """Say whether spectrograms come from torchaudio, which is here, instead of numpy.

    transformers decides so for AST and Speech2Text; their numbers differ in the last digits.
    """
    if find_spec("torchaudio") is None:
        return False
    paths = [folder / name for name in ("config.json", *PREPROCESSORS)]
    settings = "".join(
        path.read_text(encoding="utf-8", errors="replace") for path in paths if path.is_file()
    )
    return any(name in settings for name in TAKE_TORCHAUDIO)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read a file's or folder's tensors, of all shards, without running anything in them."""
    if path.is_file():
        return read_tensors(path)
    files = [file for file in checkpoint_files(path) if file.suffix != ".json"]
    return {name: tensor for file in files for name, tensor in read_tensors(file).items()}


_building = Lock()  # the seed and transformers' patches of torch's initialisers are global


def build(config: Any, tensors: Mapping[str, Tensor] | None, where: str) -> nn.Module:
    """Build the part of a model that hears; random weights where there are no tensors."""
    from transformers import AutoModel

    with (
        _building,
        one_line(f"{where} cannot be loaded"),
        quiet_transformers(),
        torch.random.fork_rng([]),
    ):
        torch.manual_seed(SEED)
        model: Any = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32, trust_remote_code=False
        )
        missing: set[str] = set()
        if tensors is not None:
            model, loaded = type(model).from_pretrained(
                None,
                config=config,
                state_dict=dict(tensors),
                dtype=torch.float32,
                output_loading_info=True,
            )
            missing = set(loaded["missing_keys"])
    part = _hearing_part(model, config)
    prefix = next(f"{n}." if n else "" for n, module in model.named_modules() if module is part)
    absent = sorted(
        name
        for name, tensor in part.state_dict().items()
        if tensor.is_floating_point()
        and f"{prefix}{name}" in missing
        and not name.endswith("masked_spec_embed")  # for training only
    )
    if absent:
        raise ValueError(
            f"{where} is not a checkpoint of its config.json: {len(absent)} tensors are missing, "
            f"first {absent[0]!r}"
        )
    return part


def _hearing_part(model: Any, config: Any) -> nn.Module:
    if config.model_type == "clap":
        return model.audio_model  # type: ignore[no-any-return]
    if getattr(config, "is_encoder_decoder", False):
        return model.get_encoder()  # type: ignore[no-any-return]
    return model  # type: ignore[no-any-return]


@contextmanager
def one_line(what: str) -> Iterator[None]:
    """Turn what transformers raises, often many lines, into one; out of memory stays what it is."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (
        *(ValueError, TypeError, LookupError, AttributeError, RuntimeError, OSError, ImportError),
        StrictDataclassError,
    ) as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{what}: {why}") from error


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep progress bars and loading reports off the terminal."""
    from transformers.utils import logging as theirs

    logger, bars = logging.getLogger("transformers"), theirs.is_progress_bar_enabled()
    level = logger.level
    theirs.disable_progress_bar()  # type: ignore[no-untyped-call]
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            theirs.enable_progress_bar()  # type: ignore[no-untyped-call]
