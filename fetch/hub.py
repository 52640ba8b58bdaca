"""Audio models of the Hugging Face hub: a model id or a folder becomes files on disk, verified.

Only settings and tensors are fetched, at one commit, into Hugging Face's own cache, where other
programs find them. The hub states hashes of large files; all others, and which commit a branch
was, are recorded when first seen.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from fetch.download import DownloadError, reachable, unobtainable
from fetch.first_seen import recorded, remember
from fetch.places import is_offline, weights_folder
from fetch.weights import (
    HUB,
    LOOKUP_S,
    PREPROCESSORS,
    TENSORS,
    Checkpoint,
    Weights,
    checkpoint_files,
    hub_snapshot,
    identity,
    on_the_hub,
    published,
    stated_sha256,
    verified_identity,
)

log = logging.getLogger(__name__)

MODEL_ID = re.compile(r"\w[\w.-]*/[\w-][\w.-]*")
REVISION = re.compile(r"\w[\w-]*([./]\w[\w-]*)*")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHARD = re.compile(r"(model|pytorch_model)-\d+-of-\d+\.(safetensors|bin)")


def find_model(
    model: str, *, revision: str = "", offline: bool = False, tensors: bool = True
) -> Checkpoint:
    """Return a model's folder and the hash of its content; fetch what is not on this machine.

    `model` is a folder, or a model id such as facebook/hubert-base-ls960. `revision` is a commit,
    branch or tag; what a branch (main by default) means is looked up once and then stays, whatever
    other programs fetch. Without `tensors` only the settings are wanted.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return Checkpoint(path, identity(path, tensors=tensors))
    if path.exists():
        raise NotADirectoryError(f"{path} is a file: hf takes a save_pretrained folder")
    if not MODEL_ID.fullmatch(model):
        raise FileNotFoundError(_nothing_there(model, path))
    if revision and not REVISION.fullmatch(revision):
        raise ValueError(f"{revision!r} is no revision of {model}: a commit, a branch or a tag")
    asked_for = revision or "main"
    row = _row(model, _known_commit(model, asked_for) or asked_for)
    own = weights_folder("hf") / (f"{model}@{revision}" if revision else model).replace("/", "--")
    if COMMIT.fullmatch(row.revision) and _is_whole(hub_snapshot(row), tensors):
        found = _verified(row, hub_snapshot(row), tensors)
        _remember(row, asked_for)
        return found
    if _is_whole(own, tensors):
        return Checkpoint(own, identity(own, tensors=tensors))
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    why = "offline was asked for" if is_offline(offline) else ""
    if why or not reachable([endpoint]):
        names = [*([TENSORS[0]] if tensors else []), "config.json", PREPROCESSORS[0]]
        missing = _row(model, row.revision, {names[0]: ("size unknown", "")}).files[0]
        beside = " and ".join(names[1:])
        hint = f"{beside} {'belong' if tensors else 'belongs'} beside it; or --encoder hf:FOLDER"
        raise DownloadError(unobtainable(missing, own / missing.name, why or "no network", hint))
    row = _asked(row, tensors, endpoint)
    folder = published(row, folder=own)
    _remember(row, asked_for)
    return _verified(row, folder, tensors)


def _row(
    model: str, revision: str, files: Mapping[str, tuple[int | str, str]] | None = None
) -> Weights:
    """Describe files of a model as `WEIGHTS` describes those of the encoders."""
    return Weights(
        encoder="hf",
        repository=model,
        revision=revision,
        files=on_the_hub(model, revision, files or {}),
        trained_on="",
        licence="",
        citation="",
    )


def _nothing_there(model: str, path: Path) -> str:
    beside = path.absolute().parent
    folders = [p.name for p in beside.iterdir() if p.is_dir()] if beside.is_dir() else []
    near = get_close_matches(path.name, folders, n=1)
    hint = f"; did you mean {str(path.with_name(near[0]))!r}?" if near else ""
    return f"hf:{model} is no folder here and no model id such as facebook/hubert-base-ls960{hint}"


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


def _verified(row: Weights, folder: Path, tensors: bool) -> Checkpoint:
    """Compare all files with what this commit gave the first time."""
    files = {file.name: ("", "") for file in checkpoint_files(folder)}
    stated = replace(row, files=on_the_hub(row.repository, row.revision, files))
    whole = verified_identity(stated, folder)
    return Checkpoint(folder, whole if tensors else identity(folder, tensors=False))


def _asked(row: Weights, tensors: bool, endpoint: str) -> Weights:
    """Ask the hub what a revision is now, which files it has, and what they hash to."""
    from huggingface_hub import HfApi

    try:
        info = HfApi(endpoint=endpoint).model_info(
            row.repository, revision=row.revision, timeout=LOOKUP_S, files_metadata=True
        )
    except Exception as error:  # the hub's errors share no base class
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise DownloadError(
            f"hf:{row.repository} at {row.revision!r} cannot be looked up at {endpoint}: {why}"
        ) from error
    there = {file.rfilename: file for file in info.siblings or ()}
    wanted = [[name for name in names if name in there][:1] for names in (TENSORS, PREPROCESSORS)]
    kind, names = Path(wanted[0][0] if wanted[0] else ""), ["config.json", *wanted[1]]
    if tensors:
        names = [*wanted[0], *names]
    if kind.suffix == ".json" and tensors:  # of shards, as model.safetensors.index.json
        stem, suffix = kind.name.split(".")[:2]
        names = [n for n in there if SHARD.fullmatch(n) and n.startswith(f"{stem}-")] + names
        names = [n for n in names if not SHARD.fullmatch(n) or n.endswith(suffix)]
    lacking = [name for name in ("config.json",) if name not in there]
    lacking += [] if wanted[1] else [PREPROCESSORS[0]]
    lacking += [] if wanted[0] or not tensors else [f"{TENSORS[0]} or {TENSORS[2]}"]
    commit = info.sha or ""
    if lacking or not COMMIT.fullmatch(commit):
        raise ValueError(
            f"hf:{row.repository} has no {' and no '.join(lacking or ['commit'])} at "
            f"{row.revision!r}: no audio model that can be used here"
        )
    files = {n: (there[n].size or "size unknown", stated_sha256(there[n])) for n in names}
    return replace(_row(row.repository, commit, files), hub=endpoint)


def _known_commit(model: str, revision: str) -> str:
    """Return the commit that a branch was here: by our record, else by Hugging Face's cache.

    That cache's is the last one that any program fetched.
    """
    if COMMIT.fullmatch(revision):
        return revision
    commit = recorded(f"hf:{model}@{revision}")
    if not commit:
        reference = hub_snapshot(_row(model, "_")).parents[1] / "refs" / revision
        commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else ""
    return commit if COMMIT.fullmatch(commit) else ""


def _remember(row: Weights, revision: str) -> None:
    source = f"hf:{row.repository}@{revision}"
    if revision == row.revision or recorded(source):
        return
    remember(source, row.revision)
    if not recorded(source):
        return  # which it has said
    log.warning(
        "hf:%s: %s is commit %s now and stays that here; --set hf.revision=%s pins it anywhere",
        *(row.repository, revision, row.revision, row.revision),
    )
