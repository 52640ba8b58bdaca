"""Checkpoints on disk: which files decide the vectors, and the hash of their content."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fetch.hashes import known_sha256
from fetch.reading import read_json

PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files that say how audio is prepared; the first that is there is read."""
TENSORS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files that hold a folder's tensors; the first that is there is read."""


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk: a file, or a `save_pretrained` folder, and the hash of its content."""

    path: Path
    sha256: str


def checkpoint_hash(path: Path, *, tensors: bool = True) -> str:
    """Hash a checkpoint's content: a file's sha256; of a folder, the sha256 of its sha256sums.

    For a folder this is `sha256sum config.json model.safetensors preprocessor_config.json |
    sha256sum` (of those that are there; all shards of the tensors, sorted by name). Without
    `tensors` it is that of the settings, which may be all that is there.
    """
    if path.is_file():
        return known_sha256(path)
    files = checkpoint_files(path)
    if not tensors:
        files = [file for file in files if file.name in ("config.json", *PREPROCESSORS)]
    names = [file.name for file in files]
    if "config.json" not in names or (tensors and not set(names) & set(TENSORS)):
        raise ValueError(
            f"{path} is not a save_pretrained folder: expected config.json and model.safetensors, "
            f"found {', '.join(names) or 'neither'}"
        )
    return hash_of_hashes({file.name: known_sha256(file) for file in files})


def hash_of_hashes(hashes: Mapping[str, str]) -> str:
    """Hash several files' sha256, by name, as `sha256sum NAMES | sha256sum` does."""
    sums = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(sums.encode()).hexdigest()


def checkpoint_files(folder: Path) -> list[Path]:
    """List what decides a `save_pretrained` folder's vectors: settings, index, tensors.

    The result is sorted. Files that are not there are left out, but not shards that an index
    names.
    """
    files = [folder / "config.json"]
    for names in (PREPROCESSORS, TENSORS):
        files += [folder / name for name in names if (folder / name).is_file()][:1]
    if files[-1].name in TENSORS and files[-1].suffix == ".json":
        files += [folder / name for name in shards(files[-1])]
    return sorted(files if files[0].is_file() else files[1:])


def shards(index: Path) -> list[str]:
    """List the files among which an index distributes the tensors; they are beside it."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ValueError(f"{index} is not an index of tensor files: it has no weight_map")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name or name in (".", ".."):
            raise ValueError(f"{index} names {name!r}, expected the name of a file beside it")
    return sorted(set(weight_map.values()))
