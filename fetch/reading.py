"""Settings and tensors from files that anybody may have written, without running anything in them.

Whatever a parser raises on such a file becomes one ValueError of one line. A file takes at most
about as much memory as it has bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_JSON = 32 << 20
"""Bytes; the index of a model of 100,000 tensors has 10 MB."""
LONGEST_REASON = 200
"""Characters of a library's own message that are repeated."""


@contextmanager
def refusal(what: str, *, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn any exception of the block into the ValueError `what: reason`, in one line.

    Parsers of hostile files raise what they like: RecursionError, MemoryError, AttributeError and
    so on. Exceptions of the types `but` pass.
    """
    try:
        yield
    except but:
        raise
    except Exception as error:
        raise ValueError(f"{what}: {one_line(error)[:LONGEST_REASON]}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; ValueError for anything else."""
    with refusal(f"{path} cannot be read as JSON"):
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes, expected at most {LARGEST_JSON:,}")
        content = json.loads(path.read_bytes())
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file; ValueError for a file that is not one.

    Takes safetensors and what `torch.save` wrote: a state dict, or one under `model` or
    `state_dict`. Tensors of integers, such as counters, are left out.
    """
    return _read(path)[0]


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors as `read_tensors` does, and the settings that are beside them under `cfg`.

    Settings are empty where there are none, as in a safetensors file.
    """
    tensors, settings = _read(path)
    if not isinstance(settings, dict):
        raise ValueError(f"{path} has a {type(settings).__name__} as cfg, expected a dict")
    return tensors, settings


def _read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read tensors, all finite, and whatever is beside them under `cfg`."""
    settings: Any = {}
    if path.suffix == ".safetensors":
        with refusal(f"{path} is not a whole safetensors file; fetch or save it again"):
            tensors = _read_safetensors(path)
    else:
        with refusal(
            f"{path} cannot be read as weights: it is truncated, no checkpoint, or holds more than "
            "tensors, which is never run; fetch or save it again"
        ):
            tensors, settings = _read_pickle(path)
    for name, tensor in tensors.items():
        with refusal(f"{path} holds a tensor {name!r} that cannot be used"):
            is_finite = bool(tensor.isfinite().all())
        if not is_finite:
            raise ValueError(
                f"{path} holds values that are not finite, first in {name!r}; "
                "take an earlier checkpoint of that training"
            )
    return tensors, settings


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return {name: t for name, t in load_file(path).items() if t.is_floating_point()}


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Read tensors and settings of a checkpoint that torch saved, without running its code."""
    import torch

    _check_archive(path)
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    settings = loaded.get("cfg", {}) if isinstance(loaded, dict) else {}
    for wrapper in ("model", "state_dict", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise ValueError(f"it holds a {type(loaded).__name__}, expected a state dict")
    tensors = {
        str(name).removeprefix("module."): tensor
        for name, tensor in loaded.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }
    for name, tensor in tensors.items():
        _check_size(name, tensor)
    return tensors, settings


def _check_archive(path: Path) -> None:
    """Raise if the zip archive that `torch.save` writes would unpack to more than its size."""
    from zipfile import ZipFile, is_zipfile

    if not is_zipfile(path):
        return  # the format of torch before 1.6
    with ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        raise ValueError(
            f"it unpacks to {unpacked:,} bytes and has {path.stat().st_size:,}; torch.save never "
            "compresses"
        )


def _check_size(name: str, tensor: Tensor) -> None:
    """Raise if a tensor repeats its values by strides, or has none: it would grow when used."""
    import torch

    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise ValueError(f"{name!r} is {tensor.layout} on {tensor.device}, expected values")
    held = tensor.untyped_storage().nbytes()
    if tensor.nbytes > held:
        raise ValueError(
            f"{name!r} has shape {tuple(tensor.shape)}, which is {tensor.nbytes:,} bytes, and the "
            f"file holds only {held:,} of them"
        )


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, what: str
) -> None:
    """Raise if any expected tensor is missing or of another shape; more than expected is fine.

    `expected` maps names to shapes; `what` is what the checkpoint should be one of.
    """
    missing = [name for name in expected if name not in tensors]
    if missing:
        own = next((f", it has {name!r} instead" for name in tensors if name not in expected), "")
        raise ValueError(
            f"{path} is not a checkpoint of {what}: {len(missing)} of {len(expected)} tensors are "
            f"missing, first {missing[0]!r}{own}; its keys must be the published ones"
        )
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise ValueError(
                f"{path} is not a checkpoint of {what}: {name!r} has shape "
                f"{tuple(tensors[name].shape)}, expected {shape}"
            )
