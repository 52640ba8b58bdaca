"""Published weights and the user's own: found, fetched once, verified, read without executing.

`WEIGHTS` is the table. `find_checkpoint` turns an encoder's `weights` option into a checkpoint on
disk; `read_tensors` reads one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fetch.download import (
    DownloadError,
    RemoteFile,
    fetch,
    is_intact,
    reachable,
    unobtainable,
)
from fetch.first_seen import recorded, verify_first_seen
from fetch.places import is_offline, weights_folder

if TYPE_CHECKING:
    from torch import Tensor

RANDOM = "random"
RANDOM_WARNING = "random weights: these scores say nothing about the encoder"

HUB = "https://huggingface.co"
LOOKUP_S = 10.0

PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""What says how audio is prepared; the first that is there is read."""
TENSORS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What holds a folder's tensors; the first that is there is read."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where an encoder's published weights are, what they must hash to, and who to thank."""

    encoder: str
    files: tuple[RemoteFile, ...]
    """The tensors first; a file of settings may follow."""
    trained_on: str
    licence: str
    citation: str
    elsewhere: tuple[str, ...] = ()
    """Folders in which other programs keep the same files."""
    repository: str = ""
    """Hugging Face repository, where that is the source; its cache is used and filled."""
    revision: str = ""
    hub: str = ""
    """Another endpoint than Hugging Face's or `HF_ENDPOINT`."""
    handles: tuple[str, ...] = ()
    """Names on TensorFlow Hub, where that is the source; its cache is used and filled."""

    @property
    def is_folder(self) -> bool:
        """Say whether the checkpoint is a `save_pretrained` folder instead of one file."""
        return bool(self.repository)

    @property
    def identity(self) -> str:
        """What `identity` says of an intact copy."""
        hashes = {file.name: file.hash.removeprefix("sha256:") for file in self.files}
        return _identity_of(hashes) if self.is_folder else hashes[self.files[0].name]

    @property
    def source(self) -> str:
        """The pinned handle, or repository and revision; for people and for `first_seen`."""
        return self.handles[0] if self.handles else f"hf:{self.repository}@{self.revision}"


@dataclass(frozen=True)
class Checkpoint:
    """Weights on disk: a file, or a `save_pretrained` folder, and what identifies its content."""

    path: Path
    sha256: str


def on_the_hub(
    repository: str, revision: str, files: Mapping[str, tuple[int | str, str]]
) -> tuple[RemoteFile, ...]:
    """List files of a repository: name to size and sha256, "" where none is stated.

    A size that is not known to the byte is a text for people.
    """
    return tuple(
        RemoteFile(
            name=name,
            urls=(f"{HUB}/{repository}/resolve/{revision}/{name}",),
            size=size if isinstance(size, int) else 0,
            about_size=size if isinstance(size, str) else "",
            hash=f"sha256:{sha256}" if sha256 else "",
        )
        for name, (size, sha256) in files.items()
    )


AST_REPOSITORY = "MIT/ast-finetuned-audioset-10-10-0.4593"
AST_REVISION = "f826b80d28226b62986cc218e5cec390b1096902"
WAV2VEC2_REPOSITORY = "facebook/wav2vec2-base"
WAV2VEC2_REVISION = "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"
RESNET50_REPOSITORY = "microsoft/resnet-50"
RESNET50_REVISION = "34c2154c194f829b11125337b98c8f5f9965ff19"

VGGISH_HANDLES = (
    "https://tfhub.dev/google/vggish/1",
    "https://www.kaggle.com/models/google/vggish/TensorFlow2/vggish/1",
)

WEIGHTS: dict[str, Weights] = {
    "panns": Weights(
        encoder="panns",
        files=(
            RemoteFile(
                name="Cnn14_mAP=0.431.pth",
                urls=(
                    "https://zenodo.org/api/records/3987831/files/Cnn14_mAP=0.431.pth/content",
                    "https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
                ),
                size=327_428_481,
                hash="sha256:0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
            ),
        ),
        elsewhere=("~/panns_data",),
        trained_on="AudioSet, 527 sounds (supervised)",
        licence="CC-BY-4.0",
        citation=(
            'Kong et al., "PANNs: large-scale pretrained audio neural networks for audio pattern '
            'recognition", IEEE/ACM TASLP 28, 2020, doi:10.1109/TASLP.2020.3030497'
        ),
    ),
    "ast": Weights(
        encoder="ast",
        repository=AST_REPOSITORY,
        revision=AST_REVISION,
        files=on_the_hub(
            AST_REPOSITORY,
            AST_REVISION,
            {
                "model.safetensors": (
                    346_404_948,
                    "ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d",
                ),
                "config.json": (
                    26_763,
                    "a93d525511d77e8ecc933d09674b85099815bbbb417c228a4edd655e252fb9ff",
                ),
                "preprocessor_config.json": (
                    297,
                    "8d04ba5a9c6fca5d39d0de2b1fd05ecf79deb589fbba279728bbebac39934231",
                ),
            },
        ),
        trained_on="ImageNet, then AudioSet, 527 sounds (supervised)",
        licence="BSD-3-Clause",
        citation=(
            'Gong, Chung and Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021, '
            "doi:10.21437/Interspeech.2021-698"
        ),
    ),
    "vggish": Weights(
        encoder="vggish",
        handles=VGGISH_HANDLES,
        files=(
            RemoteFile(
                name="vggish_1.tar.gz",
                urls=tuple(f"{handle}?tf-hub-format=compressed" for handle in VGGISH_HANDLES),
                hash="",
                about_size="about 290 MB",
            ),
        ),
        trained_on="a preliminary version of YouTube-8M, labels of videos (supervised)",
        licence="Apache-2.0",
        citation=(
            'Hershey et al., "CNN architectures for large-scale audio classification", '
            "ICASSP 2017, doi:10.1109/ICASSP.2017.7952132"
        ),
    ),
    "wav2vec2": Weights(
        encoder="wav2vec2",
        repository=WAV2VEC2_REPOSITORY,
        revision=WAV2VEC2_REVISION,
        files=on_the_hub(
            WAV2VEC2_REPOSITORY,
            WAV2VEC2_REVISION,
            {
                "pytorch_model.bin": (
                    380_267_417,
                    "3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
                ),
                "config.json": (
                    1_842,
                    "4937977e24d12d1bba70cdce8709c3c04807a8e4ae8ddac4229c48c436ae99ae",
                ),
                "preprocessor_config.json": (
                    159,
                    "b225d617c025463b9e157e06afea8b90dc7078fc70b013c533328423e0486b4a",
                ),
            },
        ),
        trained_on="LibriSpeech, 960 h of speech (self-supervised)",
        licence="Apache-2.0",
        citation=(
            'Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech '
            'representations", NeurIPS 2020, arXiv:2006.11477'
        ),
    ),
    "resnet50": Weights(
        encoder="resnet50",
        repository=RESNET50_REPOSITORY,
        revision=RESNET50_REVISION,
        files=on_the_hub(  # hashes are asked for, and recorded, when they are fetched
            RESNET50_REPOSITORY,
            RESNET50_REVISION,
            {"model.safetensors": ("about 102 MB", ""), "config.json": ("about 70 kB", "")},
        ),
        trained_on="ImageNet-1k, 1000 kinds of photographs (supervised)",
        licence="Apache-2.0",
        citation=(
            'He et al., "Deep residual learning for image recognition", CVPR 2016, '
            "doi:10.1109/CVPR.2016.90"
        ),
    ),
}


def find_checkpoint(option: str, weights: Weights, *, offline: bool = False) -> Checkpoint:
    """Return the user's checkpoint, or the published one where `option` is empty."""
    if not option:
        path = published(weights, offline=offline)
        return Checkpoint(path, verified_identity(weights, path))
    path = Path(option).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"No checkpoint at {path}: --weights takes a checkpoint file, a save_pretrained "
            f"folder or {RANDOM!r}"
        )
    if path.name in TENSORS and (path.parent / "config.json").is_file():
        path = path.parent  # its settings belong to it
    if path.is_dir() and weights.handles:
        from fetch.vggish_weights import converted

        path = converted(path)
    if path.is_dir() and not weights.is_folder:
        raise ValueError(f"{path} is a folder; {weights.encoder} takes a checkpoint file")
    return Checkpoint(path, identity(path))


def verified_identity(weights: Weights, path: Path) -> str:
    """Return `identity(path)` of a published checkpoint whose stated hashes are verified.

    Files without a pinned hash are compared with what the same revision gave the first time.
    """
    if all(file.hash for file in weights.files):
        return weights.identity
    if weights.handles:  # what was converted here
        verify_first_seen(weights.source, sha256 := _sha256(path), path)
        return sha256
    hashes = {file.name: _sha256(path / file.name) for file in weights.files}
    for name, sha256 in hashes.items():
        verify_first_seen(f"{weights.source}/{name}", sha256, path / name)
    return _identity_of(hashes)


def is_verifiable(weights: Weights) -> bool:
    """Say whether all hashes are pinned, or recorded from when they were first seen."""
    if weights.handles:
        return bool(recorded(weights.source))
    return all(file.hash or recorded(f"{weights.source}/{file.name}") for file in weights.files)


def identity(path: Path, *, tensors: bool = True) -> str:
    """Hash a checkpoint's content: a file's sha256; of a folder, the sha256 of its sha256sums.

    For a folder this is `sha256sum config.json model.safetensors preprocessor_config.json |
    sha256sum` (of those that are there; all shards of the tensors, sorted by name). Without
    `tensors` it is that of the settings, which may be all that is there.
    """
    if path.is_file():
        return _sha256(path)
    files = checkpoint_files(path)
    if not tensors:
        files = [file for file in files if file.name in ("config.json", *PREPROCESSORS)]
    found = [file.name for file in files]
    if "config.json" not in found or (tensors and not set(found) & set(TENSORS)):
        raise ValueError(
            f"{path} is not a save_pretrained folder: expected config.json and model.safetensors, "
            f"found {', '.join(found) or 'neither'}"
        )
    return _identity_of({file.name: _sha256(file) for file in files})


def checkpoint_files(folder: Path) -> list[Path]:
    """List what decides a `save_pretrained` folder's vectors: settings, index, tensors.

    The result is sorted; files that are not there are left out, shards that an index names are not.
    """
    files = [folder / "config.json"]
    for names in (PREPROCESSORS, TENSORS):
        files += [folder / name for name in names if (folder / name).is_file()][:1]
    if files[-1].name in TENSORS and files[-1].suffix == ".json":
        files += [folder / name for name in shards(files[-1])]
    return sorted(files if files[0].is_file() else files[1:])


def shards(index: Path) -> list[str]:
    """List the files among which an index distributes the tensors; they lie beside it."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not an index of tensor files ({error})") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{index} names {name!r}, expected the name of a file beside it")
    return names


def _identity_of(hashes: Mapping[str, str]) -> str:
    sums = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return hashlib.sha256(sums.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published(weights: Weights, *, offline: bool = False, folder: Path | None = None) -> Path:
    """Return the path of the published weights, verified; fetch them if they are nowhere here.

    `folder` is where they are kept, by default the user's cache directory. What is fetched without
    a pinned hash is recorded as first seen.
    """
    folder = folder or weights_folder(weights.encoder)
    found = find_published(weights, folder=folder)
    if found is not None:
        return found
    hint = "or pass --weights PATH to a copy of yours, or --weights random for a trial"
    if weights.repository:
        path = _from_hub(weights, folder, offline=offline, hint=hint)
        verified_identity(weights, path)
        return path
    if weights.handles:
        from fetch.vggish_weights import from_tensorflow_hub

        return from_tensorflow_hub(weights, folder, offline=offline, hint=hint)
    for file in weights.files:
        fetch(file, folder, offline=is_offline(offline), hint=hint)
    return folder / weights.files[0].name


def find_published(weights: Weights, *, folder: Path | None = None) -> Path | None:
    """Return an intact copy that is already here: ours, another program's, or the hub's cache."""
    if weights.handles:
        from fetch.vggish_weights import CONVERTED

        ours = (folder or weights_folder(weights.encoder)) / CONVERTED
        return ours if ours.is_file() else None
    places = [folder or weights_folder(weights.encoder)]
    places += [Path(place).expanduser() for place in weights.elsewhere]
    if weights.repository:
        places += [hub_snapshot(weights)]
    for place in places:
        if all(is_intact(file, place / file.name) for file in weights.files):
            return place if weights.is_folder else place / weights.files[0].name
    return None


def hub_snapshot(weights: Weights) -> Path:
    """Return the folder of this revision in Hugging Face's cache."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    cache = Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
    name = repo_folder_name(repo_id=weights.repository, repo_type="model")
    return cache / name / "snapshots" / weights.revision


def _from_hub(weights: Weights, folder: Path, *, offline: bool, hint: str) -> Path:
    """Fill Hugging Face's own cache, so that other programs find the files as well."""
    from huggingface_hub import hf_hub_download

    snapshot = hub_snapshot(weights)
    endpoint = weights.hub or os.environ.get("HF_ENDPOINT") or HUB
    largest = weights.files[0]
    others = " and ".join(file.name for file in weights.files[1:])
    verb = "belong" if len(weights.files) > 2 else "belongs"
    hint = f"{others} {verb} beside it; {hint}"
    if is_offline(offline):
        why = "offline was asked for"
        raise DownloadError(unobtainable(largest, folder / largest.name, why, hint))
    if not reachable([endpoint]):
        raise DownloadError(unobtainable(largest, folder / largest.name, "no network", hint))
    for file in reversed(_stated(weights, endpoint)):  # the small ones first
        path = snapshot / file.name
        for _ in range(2):
            if is_intact(file, path):
                break
            if path.exists():  # a wrong copy, and the blob it links to
                path.resolve().unlink()
                path.unlink(missing_ok=True)
            try:
                hf_hub_download(
                    weights.repository,
                    file.name,
                    revision=weights.revision,
                    endpoint=endpoint,
                    cache_dir=snapshot.parents[2],
                )
            except Exception as error:  # the hub's errors share no base class
                why = " ".join(str(error.__cause__ or error).split())[:200]
                raise DownloadError(
                    unobtainable(file, folder / file.name, why or type(error).__name__, hint)
                ) from error
        if not is_intact(file, path):
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise DownloadError(
                f"{file.name} from {file.page} has another "
                f"{f'hash than {file.hash}' if file.hash else f'size than {file.size:,}'}, twice; "
                f"nothing was kept. Try again later, or put a good copy at {folder}"
            )
    return snapshot


def _stated(weights: Weights, endpoint: str) -> list[RemoteFile]:
    """List the files with the hashes that the hub states of those not pinned here."""
    if all(file.hash or file.size for file in weights.files):
        return list(weights.files)
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint).model_info(
            weights.repository, revision=weights.revision, timeout=LOOKUP_S, files_metadata=True
        )
    except Exception as error:  # the hub's errors share no base class
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise DownloadError(f"{weights.source} cannot be looked up at {endpoint}: {why}") from error
    there = {file.rfilename: file for file in info.siblings or ()}
    return [
        replace(file, hash=f"sha256:{sha256}")
        if not file.hash and (sha256 := stated_sha256(there.get(file.name)))
        else file
        for file in weights.files
    ]


def stated_sha256(file: object) -> str:
    """Return the hash that the hub states of a large file, or ""."""
    lfs = getattr(file, "lfs", None)
    return str(lfs.sha256) if lfs is not None and lfs.sha256 else ""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or say in one line why not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected an object")
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint file's tensors without running anything in it.

    Takes safetensors and what `torch.save` wrote: a state dict, or one under `model` or
    `state_dict`. Integer counters are left out.
    """
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{path} holds values that are not finite, first in {name!r}; "
                "take an earlier checkpoint of that training"
            )
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fetch or save it again"
        ) from error
    return {name: t for name, t in tensors.items() if t.is_floating_point()}


def _read_pickle(path: Path) -> dict[str, Tensor]:
    from pickle import UnpicklingError

    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as weights: it is truncated, no checkpoint, or holds more than "
            "tensors, which is never run; fetch or save it again"
        ) from error
    for wrapper in ("model", "state_dict", "model_state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a state dict")
    return {
        str(name).removeprefix("module."): tensor
        for name, tensor in loaded.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], path: Path, what: str
) -> None:
    """Raise if any expected tensor is missing or of another shape; more than expected is fine."""
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
