"""Models as transformers' `save_pretrained` writes them: a folder of settings and tensors.

config.json decides the network, preprocessor_config.json its input. Code that a folder names is
never run. Settings that ask for far more memory than the folder's tensors take are refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from embed.pretrained import SEED
from fetch.checkpoints import PREPROCESSORS, checkpoint_files
from fetch.reading import read_json, read_tensors, refusal

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
OF_TRANSFORMERS = (None, "eager", "sdpa")
"""Implementations that transformers itself has; other names can be repositories of compiled code,
which it would fetch and run."""
TAKE_TORCHAUDIO = (
    *("audio-spectrogram-transformer", "ASTFeatureExtractor"),
    *("speech_to_text", "Speech2TextFeatureExtractor"),
)
MOST_LAYERS = 1000
"""Layers that a setting may ask for; the deepest published audio models have 48."""
LARGEST_SETTING = 10**7
"""Largest number in the settings of a feature extractor: ten minutes of samples."""
MOST_BANDS = 10**4
"""Largest number of mel bands or frequencies, and of other features per frame."""
MOST_PARAMETERS = 2 * 10**9
"""Parameters of a network without tensors: 8 GB."""
AUDIO_PARTS = {"clap": "audio_model", "pe_audio": "audio_encoder"}
"""The part that hears, of models of sound and text, by their type."""
INPUTS = {"audio": ("audio", "input_values", "input_features"), "pixels": ("pixel_values",)}


def check_settings(folder: Path) -> None:
    """Raise a ValueError if a folder's settings name code of others or ask for absurd sizes.

    Adapters and quantised weights are refused, too. Settings are searched at any depth.
    """
    if (folder / "adapter_config.json").is_file():
        raise ValueError(
            f"{folder / 'adapter_config.json'} is of an adapter: merge it into its model"
        )
    for name in ("config.json", *PREPROCESSORS):
        path = folder / name
        for part in _objects(read_json(path) if path.is_file() else {}):
            _check_no_code(part, path)
            for key, value in part.items():
                _check_number(key, value, path)


def _objects(content: Any) -> Iterator[dict[str, Any]]:
    """List all objects within JSON, at any depth."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _check_no_code(part: Mapping[str, Any], path: Path) -> None:
    """Raise ValueError for settings that would run code from elsewhere."""
    for key, value in part.items():
        implementations = list(value.values()) if isinstance(value, dict) else [value]
        is_choice = key.removesuffix("_internal").endswith(IMPLEMENTATIONS)
        if is_choice and any(each not in OF_TRANSFORMERS for each in implementations):
            raise ValueError(
                f"{path} asks for {key} {value!r}, which can be code from the hub and is never "
                "run: remove that line, or write 'eager' or 'sdpa'"
            )
    if "auto_map" in part:
        raise ValueError(
            f"{path} names code of its own (auto_map), which is never run; only models that "
            "transformers itself has can be used"
        )
    if part.get("quantization_config"):
        raise ValueError(f"{path}: quantised weights are not supported")


def _check_number(key: str, value: Any, path: Path) -> None:
    """Raise for a number of layers, bands or samples that no published model comes near.

    transformers would build that many layers, or fill that many bands, before it looked at the
    tensors.
    """
    largest = 0
    if "layer" in key or key.startswith(("depth", "num_block")):
        largest = MOST_LAYERS
    elif path.name in PREPROCESSORS and key != "model_max_length":  # of a tokenizer: 1e30
        of_a_frame = any(part in key for part in ("bins", "feature_size", "fft"))
        largest = MOST_BANDS if of_a_frame else LARGEST_SETTING
    for number in value if isinstance(value, list) else [value]:
        if largest and isinstance(number, int | float) and not -largest <= number <= largest:
            raise ValueError(f"{path} has {key} {number!r}, expected at most {largest:,}")


def read_config(folder: Path, display_name: str, *, takes: str = "audio") -> Any:
    """Read config.json of a model that transformers itself has and that `takes` audio or pixels.

    `display_name` is the user's name of the model, for messages. ValueError for other models.
    """
    from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig

    check_settings(folder)
    kind = read_json(folder / "config.json").get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(
            f"{display_name} is of type {kind!r}, which transformers here does not have"
        )
    with one_line(f"{folder / 'config.json'} cannot be used"):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model: Any = MODEL_MAPPING.get(type(config), None)
        model = model[0] if isinstance(model, tuple) else model
    taken = "audio" if kind in AUDIO_PARTS else getattr(model, "main_input_name", "nothing known")
    if taken not in INPUTS[takes]:
        raise ValueError(f"{display_name} is of type {kind!r} and takes {taken}, not {takes}")
    for part in (config, *(getattr(config, name, None) for name in config.sub_configs)):
        if part is not None:
            part.return_dict = True  # outputs are taken by name
    return config


def read_extractor(folder: Path, display_name: str) -> Any:
    """Read the feature extractor, which prepares audio for a model; ValueError without one."""
    from transformers import AutoFeatureExtractor

    config = read_config(folder, display_name)
    name = next((name for name in PREPROCESSORS if (folder / name).is_file()), "")
    if not name:
        raise ValueError(
            f"{display_name} has no preprocessor_config.json ({folder}): save its feature "
            "extractor there"
        )
    with one_line(f"the feature extractor of {display_name} cannot be used"):
        extractor: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
            folder / name if name == PREPROCESSORS[0] else folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
        )
    if not isinstance(getattr(extractor, "sampling_rate", None), int):
        raise ValueError(f"{display_name} has a {type(extractor).__name__}, which takes no audio")
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
    """Build the part of a model that encodes audio or pictures; random weights without tensors.

    `where` names the model in messages. Raises ValueError if the tensors are not of this config.
    """
    from transformers import AutoModel

    with (
        _building,
        one_line(f"{where} cannot be loaded"),
        quiet_transformers(),
        torch.random.fork_rng([]),
    ):
        skeleton = _skeleton(config, tensors)
        torch.manual_seed(SEED)
        missing: set[str] = set()
        if tensors is None:
            model: Any = AutoModel.from_config(  # type: ignore[no-untyped-call]
                config, dtype=torch.float32, trust_remote_code=False
            )
        else:
            model, loaded = type(skeleton).from_pretrained(
                None,
                config=config,
                state_dict=dict(tensors),
                dtype=torch.float32,
                output_loading_info=True,
            )
            missing = set(loaded["missing_keys"])
    part = _encoding_part(model, config)
    _check_complete(model, part, missing, where)
    return part


def _skeleton(config: Any, tensors: Mapping[str, Tensor] | None) -> Any:
    """Build a model without memory for its parameters; ValueError for one of too many.

    The settings of a checkpoint may describe at most twice the values of its tensors. Parts that
    are not used may be absent from a checkpoint, and count only if they are huge.
    """
    from transformers import AutoModel

    with torch.device("meta"):
        model: Any = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False
        )
    used = sum(parameter.numel() for parameter in _encoding_part(model, config).parameters())
    whole = sum(tensor.numel() for tensor in [*model.parameters(), *model.buffers()])
    there = 0 if tensors is None else sum(tensor.numel() for tensor in tensors.values())
    if (tensors is not None and used > 2 * there) or whole > max(MOST_PARAMETERS, 2 * there):
        values = "" if tensors is None else f", its tensors hold {there:,}"
        raise ValueError(f"its settings describe {whole:,} parameters{values}")
    return model


def _check_complete(model: nn.Module, part: nn.Module, missing: set[str], where: str) -> None:
    """Raise if tensors of `part` were missing in the checkpoint."""
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


def _encoding_part(model: Any, config: Any) -> nn.Module:
    if config.model_type in AUDIO_PARTS:
        return getattr(model, AUDIO_PARTS[config.model_type])  # type: ignore[no-any-return]
    if getattr(config, "is_encoder_decoder", False):
        return model.get_encoder()  # type: ignore[no-any-return]
    return model  # type: ignore[no-any-return]


def one_line(what: str) -> AbstractContextManager[None]:
    """Turn what transformers raises, often many lines, into one; a full GPU stays what it is."""
    return refusal(what, but=(torch.OutOfMemoryError,))


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
