"""Audio models of the Hugging Face hub: a model id or a folder becomes files on disk, verified.

Only settings and tensors are fetched, at one commit, into Hugging Face's own cache, where other
programs find them. The hub states hashes of large files; all others, and which commit a branch
was, are recorded when first seen.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from fetch.checkpoints import PREPROCESSORS, TENSORS, Checkpoint, checkpoint_files, checkpoint_hash
from fetch.download import DownloadError, unobtainable, why_no_network
from fetch.first_seen import recorded, remember
from fetch.places import weights_folder
from fetch.sources import HubRepository, query_hub, stated_sha256

log = logging.getLogger(__name__)

MODEL_ID = re.compile(r"\w[\w.-]{,95}/[\w-][\w.-]{,95}")
REVISION = re.compile(r"(?=.{,100}$)\w[\w-]*([./]\w[\w-]*)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")


def find_model(
    model: str, *, revision: str = "", offline: bool = False, tensors: bool = True
) -> Checkpoint:
    """Return a model's folder and the hash of its content; fetch what is not on this machine.

    `model` is a folder, or a model id such as facebook/hubert-base-ls960. `revision` is a commit,
    branch or tag. What a branch (main by default) means is looked up once and then stays, even if
    other programs fetch a newer commit. Without `tensors` only the settings are wanted.

    Raises FileNotFoundError for a name that is neither, ValueError for a repository or folder
    that is no audio model, and DownloadError if files are neither here nor can be fetched.
    """
    path = Path(model).expanduser()
    if os.path.isdir(path):  # noqa: PTH112, Path.is_dir raises for a name that is too long
        return Checkpoint(path, checkpoint_hash(path, tensors=tensors))
    if os.path.exists(path):  # noqa: PTH110
        raise NotADirectoryError(f"{path} is a file: hf takes a save_pretrained folder")
    if not MODEL_ID.fullmatch(model):
        raise FileNotFoundError(_nothing_there(model, path))
    if revision and not REVISION.fullmatch(revision):
        raise ValueError(f"{revision!r} is no revision of {model}: a commit, a branch or a tag")
    wanted = revision or "main"
    repository = _repository(model, _known_commit(model, wanted) or wanted)
    own = weights_folder("hf") / (f"{model}@{revision}" if revision else model).replace("/", "--")
    if COMMIT.fullmatch(repository.revision) and _is_whole(repository.snapshot, tensors):
        found = _verified(repository, repository.snapshot, tensors)
        _remember(repository, wanted)
        return found
    if _is_whole(own, tensors):
        return Checkpoint(own, checkpoint_hash(own, tensors=tensors))
    if why := why_no_network([repository.address], offline=offline):
        raise DownloadError(_missing(repository, own, tensors, why))
    repository = _on_the_hub(repository, tensors)
    folder = repository.find(own)
    if folder is None:
        folder = repository.fetch(own, offline=offline, hint="or --encoder hf:FOLDER")
    _remember(repository, wanted)
    return _verified(repository, folder, tensors)


def _repository(model: str, revision: str, *names: str) -> HubRepository:
    """Describe a model of which nothing but the names of its files is known."""
    contents = dict.fromkeys(names, ("size unknown", ""))
    return HubRepository(repository=model, revision=revision, contents=contents)


def _nothing_there(model: str, path: Path) -> str:
    beside = path.absolute().parent
    is_folder = os.path.isdir(beside)  # noqa: PTH112
    folders = [p.name for p in beside.iterdir() if p.is_dir()] if is_folder else []
    near = get_close_matches(path.name, folders, n=1)
    hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
    return f"hf:{model} is no folder here and no model id such as facebook/hubert-base-ls960{hint}"


def _missing(repository: HubRepository, own: Path, tensors: bool, why: str) -> str:
    """Say which files of a model are missing, and where to put them by hand."""
    names = [*([TENSORS[0]] if tensors else []), "config.json", PREPROCESSORS[0]]
    first = _repository(repository.repository, repository.revision, names[0]).files[0]
    beside = " and ".join(names[1:])
    hint = f"{beside} {'belong' if tensors else 'belongs'} beside it; or --encoder hf:FOLDER"
    return unobtainable(first, own / first.name, why, hint)


def _is_whole(folder: Path, tensors: bool) -> bool:
    if not folder.is_dir():
        return False
    files = checkpoint_files(folder)
    names = {file.name for file in files}
    return (
        all(file.is_file() for file in files)
        and "config.json" in names
        and bool(names & set(PREPROCESSORS))
        and (bool(names & set(TENSORS)) or not tensors)
    )


def _verified(repository: HubRepository, folder: Path, tensors: bool) -> Checkpoint:
    """Compare all files with what this commit gave the first time."""
    names = (file.name for file in checkpoint_files(folder))
    whole = _repository(repository.repository, repository.revision, *names).checkpoint_hash(folder)
    return Checkpoint(folder, whole if tensors else checkpoint_hash(folder, tensors=False))


def _on_the_hub(repository: HubRepository, tensors: bool) -> HubRepository:
    """Ask the hub which commit a revision is now, and which of its files are wanted.

    ValueError for a repository that has no settings or no tensors.
    """
    info = query_hub(repository)
    there = {file.rfilename: file for file in info.siblings or ()}
    tensor_file, preprocessor = (
        next((name for name in names if name in there), "") for names in (TENSORS, PREPROCESSORS)
    )
    lacking = [] if "config.json" in there else ["config.json"]
    lacking += [] if preprocessor else [PREPROCESSORS[0]]
    lacking += [] if tensor_file or not tensors else [f"{TENSORS[0]} or {TENSORS[2]}"]
    commit = info.sha or ""
    if lacking or not COMMIT.fullmatch(commit):
        raise ValueError(
            f"hf:{repository.repository} has no {' and no '.join(lacking or ['commit'])} at "
            f"{repository.revision!r}: no audio model that can be used here"
        )
    names = ["config.json", preprocessor]
    if tensors:
        names = [*_shards(tensor_file, there), tensor_file, *names]
    contents = {n: (there[n].size or "size unknown", stated_sha256(there[n])) for n in names}
    return replace(repository, revision=commit, contents=contents)


def _shards(tensor_file: str, there: dict[str, object]) -> list[str]:
    """List the shards of an index such as model.safetensors.index.json; none for other files."""
    if not tensor_file.endswith(".json"):
        return []
    stem, suffix = tensor_file.split(".")[:2]
    names = (name for name in there if SHARD.fullmatch(name))
    return [name for name in names if name.startswith(f"{stem}-") and name.endswith(f".{suffix}")]


def _known_commit(model: str, revision: str) -> str:
    """Return the commit that a branch was here: by our record, else by Hugging Face's cache.

    The cache holds the last commit that any program fetched.
    """
    if COMMIT.fullmatch(revision):
        return revision
    commit = recorded(f"hf:{model}@{revision}")
    if not commit:
        reference = _repository(model, "_").snapshot.parents[1] / "refs" / revision
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else ""


def _remember(repository: HubRepository, revision: str) -> None:
    """Record which commit a branch was, and say so the first time."""
    source = f"hf:{repository.repository}@{revision}"
    if revision == repository.revision or recorded(source):
        return
    remember(source, repository.revision)
    if not recorded(source):
        return  # a warning says why
    log.warning(
        "hf:%s: %s is commit %s now and stays that here; --set hf.revision=%s pins it anywhere",
        *(repository.repository, revision, repository.revision, repository.revision),
    )
