"""The three kinds of places that weights come from, with one set of methods.

`find` returns an intact copy that is already on this machine, `fetch` brings one, and
`checkpoint_hash` identifies its content. Files whose hash is not pinned are compared with what
the same source gave the first time.
"""

from __future__ import annotations

import hashlib
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fetch import download, progress, vggish_weights
from fetch.checkpoints import TENSORS, hash_of_hashes
from fetch.download import (
    READ_S,
    DownloadError,
    RemoteFile,
    is_intact,
    unobtainable,
    why_no_network,
)
from fetch.first_seen import recorded, verify_first_seen
from fetch.hashes import known_sha256
from fetch.places import locked
from fetch.reading import LONGEST_REASON
from ground.text import one_line

HUB = "https://huggingface.co"
LOOKUP_S = 10.0


class Source(Protocol):
    """A place that weights come from."""

    is_folder: ClassVar[bool]
    """Whether a checkpoint is a `save_pretrained` folder instead of one file."""

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """What is downloaded; the tensors come first."""

    @property
    def name(self) -> str:
        """The pinned source, for people and for the record of what was first seen."""

    @property
    def is_verifiable(self) -> bool:
        """Whether all hashes are pinned, or recorded from when they were first seen."""

    def find(self, folder: Path) -> Path | None:
        """Return an intact copy in `folder`, or in the cache of another program."""

    def fetch(self, folder: Path, *, offline: bool, hint: str) -> Path:
        """Return an intact copy after downloading what is missing; DownloadError if it cannot.

        `hint` ends the message of the error: what else the user can do.
        """

    def checkpoint_hash(self, path: Path) -> str:
        """Return the hash of the copy that `find` or `fetch` returned.

        ValueError for content that differs from what this source gave the first time.
        """

    def of_user(self, path: Path) -> Path:
        """Return the checkpoint that the user means by `path`."""


@dataclass(frozen=True, kw_only=True)
class DirectFile:
    """One file at a URL; a hash that is not pinned is recorded when it is first seen."""

    file: RemoteFile
    elsewhere: tuple[str, ...] = ()
    """Folders in which other programs keep the same file."""

    is_folder: ClassVar[bool] = False

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return (self.file,)

    @property
    def name(self) -> str:
        return self.file.page

    @property
    def is_verifiable(self) -> bool:
        return bool(self.file.hash or recorded(self.name))

    def find(self, folder: Path) -> Path | None:
        places = (folder, *(Path(place).expanduser() for place in self.elsewhere))
        paths = (place / self.file.name for place in places)
        return next((path for path in paths if is_intact(self.file, path)), None)

    def fetch(self, folder: Path, *, offline: bool, hint: str) -> Path:
        return download.fetch(self.file, folder, offline=offline, hint=hint)

    def checkpoint_hash(self, path: Path) -> str:
        if self.file.hash:
            return self.file.hash.removeprefix("sha256:")
        sha256 = known_sha256(path)
        verify_first_seen(self.name, sha256, path)
        return sha256

    def of_user(self, path: Path) -> Path:
        """Take the file of tensors in a folder, where the settings beside it are not needed."""
        file = path / self.file.name
        return file if self.file.name in TENSORS and file.is_file() else path


@dataclass(frozen=True, kw_only=True)
class HubRepository:
    """Files of a Hugging Face repository at one commit; Hugging Face's cache is used and filled."""

    repository: str
    revision: str
    contents: Mapping[str, tuple[int | str, str]]
    """Name of a file to its size and sha256, tensors first. A size that is not known to the byte
    is a text for people; a hash that is not pinned is ""."""
    endpoint: str = ""
    """Another hub than Hugging Face's or `HF_ENDPOINT`."""

    is_folder: ClassVar[bool] = True

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        return tuple(
            RemoteFile(
                name=name,
                urls=(f"{HUB}/{self.repository}/resolve/{self.revision}/{name}",),
                size=size if isinstance(size, int) else 0,
                about_size=size if isinstance(size, str) else "",
                hash=f"sha256:{sha256}" if sha256 else "",
            )
            for name, (size, sha256) in self.contents.items()
        )

    @property
    def name(self) -> str:
        return f"hf:{self.repository}@{self.revision}"

    @property
    def address(self) -> str:
        """The hub that is asked."""
        return self.endpoint or os.environ.get("HF_ENDPOINT") or HUB

    @property
    def is_verifiable(self) -> bool:
        return all(file.hash or recorded(f"{self.name}/{file.name}") for file in self.files)

    @property
    def snapshot(self) -> Path:
        """Folder of this commit in Hugging Face's cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        cache = Path(os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE)
        name = repo_folder_name(repo_id=self.repository, repo_type="model")
        return cache / name / "snapshots" / self.revision

    def find(self, folder: Path) -> Path | None:
        for place in (folder, self.snapshot):
            if all(is_intact(file, place / file.name) for file in self.files):
                return place
        return None

    def fetch(self, folder: Path, *, offline: bool, hint: str) -> Path:
        """Fill Hugging Face's cache; a copy of another hash is fetched once more, then refused."""
        largest, *others = self.files
        names = " and ".join(file.name for file in others)
        hint = f"{names} {'belong' if len(others) > 1 else 'belongs'} beside it; {hint}"
        if why := why_no_network([self.address], offline=offline):
            raise DownloadError(unobtainable(largest, folder / largest.name, why, hint))
        source = self.with_hub_hashes()
        for file in source._not_intact():
            _remove(self.snapshot / file.name)
        for _ in range(2):
            source._download(folder, hint)
            wrong = source._not_intact()
            if not wrong:
                return self.snapshot
            for file in wrong:
                _remove(self.snapshot / file.name)
        file = wrong[0]
        expected = f"hash than {file.hash}" if file.hash else f"size than {file.size:,}"
        raise DownloadError(
            f"{file.name} from {file.page} is missing or has another {expected}, twice; "
            f"nothing was kept. Try again later, or put a good copy at {folder}"
        )

    def _not_intact(self) -> list[RemoteFile]:
        return [file for file in self.files if not is_intact(file, self.snapshot / file.name)]

    def _download(self, folder: Path, hint: str) -> None:
        """Fetch the snapshot by huggingface_hub; DownloadError where it cannot be had."""
        from huggingface_hub import snapshot_download

        largest = self.files[0]
        size = sum(file.size for file in self.files)
        try:
            with progress.display(self.repository, size) as advance:
                snapshot_download(
                    self.repository,
                    revision=self.revision,
                    endpoint=self.address,
                    cache_dir=self.snapshot.parents[2],
                    allow_patterns=[file.name for file in self.files],
                    tqdm_class=_bars(advance),
                )
        except Exception as error:  # the hub's errors share no base class
            why = one_line(error.__cause__ or error)[:LONGEST_REASON]
            raise DownloadError(unobtainable(largest, folder / largest.name, why, hint)) from error

    def with_hub_hashes(self) -> HubRepository:
        """Return this source with the hashes that the hub states of files not pinned here.

        DownloadError if the hub does not answer.
        """
        if all(file.hash or file.size for file in self.files):
            return self
        there = {file.rfilename: file for file in query_hub(self).siblings or ()}
        stated = {
            name: (size, sha256 or stated_sha256(there.get(name)))
            for name, (size, sha256) in self.contents.items()
        }
        return replace(self, contents=stated)

    def checkpoint_hash(self, path: Path) -> str:
        hashes = {}
        for file in self.files:
            sha256 = file.hash.removeprefix("sha256:")
            if not sha256:
                sha256 = known_sha256(path / file.name)
                verify_first_seen(f"{self.name}/{file.name}", sha256, path / file.name)
            hashes[file.name] = sha256
        return hash_of_hashes(hashes)

    def of_user(self, path: Path) -> Path:
        """Take a folder for the file of tensors in it, since its settings belong to them."""
        is_part = path.name in TENSORS and (path.parent / "config.json").is_file()
        return path.parent if is_part else path


def query_hub(repository: HubRepository) -> Any:
    """Ask the hub which commit a revision is, which files it has, and what they hash to.

    Returns huggingface_hub's ModelInfo; DownloadError if the hub does not answer.
    """
    from huggingface_hub import HfApi

    try:
        return HfApi(endpoint=repository.address).model_info(
            repository.repository,
            revision=repository.revision,
            timeout=LOOKUP_S,
            files_metadata=True,
        )
    except Exception as error:  # the hub's errors share no base class
        raise DownloadError(
            f"{repository.name} cannot be looked up at {repository.address}: "
            f"{one_line(error)[:LONGEST_REASON]}"
        ) from error


def stated_sha256(file: object) -> str:
    """Return the hash that the hub states of a large file, or ""."""
    lfs = getattr(file, "lfs", None)
    return str(lfs.sha256) if lfs is not None and lfs.sha256 else ""


def _remove(path: Path) -> None:
    """Remove a file of Hugging Face's cache, and the blob that it links to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _bars(advance: progress.Advance) -> type[Any]:
    """Make a class of tqdm's kind that prints nothing and reports to `advance`.

    The hub has one bar for bytes received and one for bytes written; the larger count is reported.
    """
    from tqdm.auto import tqdm

    done: dict[int, float] = {}

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # of huggingface_hub's own class
            super().__init__(*args, **{**options, "disable": True})
            self._counts_bytes = options.get("unit") == "B"

        def update(self, n: float | None = 1) -> None:
            if self._counts_bytes:
                done[id(self)] = done.get(id(self), 0) + (n or 0)
                advance(int(max(done.values())))

    return Bar


@dataclass(frozen=True, kw_only=True)
class TensorFlowHub:
    """VGGish's SavedModel on TensorFlow Hub, kept here as safetensors.

    The cache of TensorFlow Hub is used and filled.
    """

    handles: tuple[str, ...]
    """Names of the same model; the first is the one that is recorded."""
    archive: str
    """Name of the archive that a person downloads."""
    about_size: str

    is_folder: ClassVar[bool] = False

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        urls = tuple(f"{handle}?tf-hub-format=compressed" for handle in self.handles)
        return (RemoteFile(name=self.archive, urls=urls, hash="", about_size=self.about_size),)

    @property
    def name(self) -> str:
        return self.handles[0]

    @property
    def is_verifiable(self) -> bool:
        return bool(recorded(self.name))

    def find(self, folder: Path) -> Path | None:
        path = folder / vggish_weights.CONVERTED
        return path if path.is_file() else None

    def fetch(self, folder: Path, *, offline: bool, hint: str) -> Path:
        """Convert the SavedModel of TensorFlow Hub's cache or of an archive, or fetch it.

        ValueError where TensorFlow, which reads it, is not installed.
        """
        target, archive = folder / vggish_weights.CONVERTED, folder / self.archive
        cached = self._in_hub_cache()
        is_here = cached is not None or archive.is_file()
        if not is_here and (why := why_no_network(self.handles, offline=offline)):
            raise DownloadError(unobtainable(self.files[0], archive, why, hint))
        with locked(target):
            if not target.is_file():
                if cached is not None:
                    tensors = vggish_weights.read_saved_model(cached)
                elif archive.is_file():
                    tensors = vggish_weights.read_archive(archive)
                else:
                    tensors = vggish_weights.read_saved_model(self._resolved(archive, hint))
                vggish_weights.write(tensors, target, self.name)
        return target

    def _in_hub_cache(self) -> Path | None:
        """Return the SavedModel that another program has fetched under one of the handles."""
        cache = os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir()) / "tfhub_modules"
        for handle in self.handles:
            name = hashlib.sha1(handle.encode(), usedforsecurity=False).hexdigest()
            if vggish_weights.is_saved_model(Path(cache) / name):
                return Path(cache) / name
        return None

    def _resolved(self, archive: Path, hint: str) -> Path:
        """Have tensorflow_hub fetch the SavedModel into its own cache."""
        hub = vggish_weights.import_extra("tensorflow_hub", "TensorFlow Hub's VGGish")
        tensorflow = vggish_weights.import_extra("tensorflow", "TensorFlow Hub's VGGish")
        expected = (OSError, EOFError, ValueError, zlib.error, tarfile.TarError)
        failures = []
        for handle in self.handles:
            try:
                with _socket_timeout(), progress.display(handle, 0):
                    return Path(hub.resolve(handle))
            except (*expected, tensorflow.errors.OpError) as error:
                failures.append(f"{handle}: {one_line(error)[:LONGEST_REASON]}")
        raise DownloadError(unobtainable(self.files[0], archive, "; ".join(failures), hint))

    def checkpoint_hash(self, path: Path) -> str:
        sha256 = known_sha256(path)
        verify_first_seen(self.name, sha256, path)
        return sha256

    def of_user(self, path: Path) -> Path:
        return vggish_weights.converted(path) if path.is_dir() else path


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Set a time limit for sockets that have none: tensorflow_hub sets none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(READ_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
