"""Public data sets by name: `dcase2020:slider` is downloaded, verified and unpacked once."""

from __future__ import annotations

import re
import shutil
import stat
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from fetch.dcase_archives import ARCHIVES
from fetch.download import DownloadError, RemoteFile, fetch, is_intact, megabytes
from fetch.places import locked
from fetch.reading import refusal
from ground.files import remove_stale, whole_file, write_whole

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

CHUNK = 1 << 20
MOST_UNPACKED = 20
"""Recordings take at most this many times the bytes of their archive; a zip bomb takes 1000."""


FOLDERS = ("train", "test", "source_test", "target_test", "supplemental")
"""The folders of a machine that hold its clips."""

_NAME = re.compile(r"dcase(\d{4}):([^+]*)(.*)", re.DOTALL)
_ATTRIBUTES = re.compile(r"attributes_\d+\.csv")


class Wanted(NamedTuple):
    """Year, machine type and parts of the data set that `dcase2020:slider+evaluation` names."""

    year: int
    machine_type: str
    parts: tuple[str, ...]


def is_data_set(name: str) -> bool:
    """Tell the name of a public data set from a path."""
    return _NAME.fullmatch(name) is not None


def wanted(name: str) -> Wanted:
    """Read `dcase<year>:<machine type>`, with `+additional` and `+evaluation` if they are wanted.

    A machine of the development set always has that. Where it is one of the evaluation set only, as
    from 2023 on, its additional training clips and its evaluation clips are fetched. Raises
    ValueError for other names.
    """
    match = _NAME.fullmatch(name)
    archives = ARCHIVES.get(int(match[1])) if match else None
    if match is None or archives is None:
        raise ValueError(
            f"No data set {name!r}: there are dcase{min(ARCHIVES)}:<machine> to "
            f"dcase{max(ARCHIVES)}:<machine>, such as dcase2020:slider"
        )
    machine_types = {known.lower(): known for part in archives.values() for known in part}
    machine_type = machine_types.get(match[2].lower())
    added = match[3].split("+")[1:]
    if machine_type is None or not set(added) <= set(archives):
        raise ValueError(
            f"No data set {name!r}: there is dcase{match[1]}:<machine>, with <machine> one of "
            f"{', '.join(machine_types.values())}, and +additional and +evaluation after it if "
            "wanted"
        )
    there = [part for part in archives if machine_type in archives[part]]
    parts = [part for part in there if part == "development" or part in added]
    if absent := [part for part in added if part not in there]:
        raise ValueError(
            f"No data set {name!r}: dcase{match[1]} has no {absent[0]} clips of {machine_type}, "
            f"only {' and '.join(there)}"
        )
    return Wanted(int(match[1]), machine_type, tuple(parts if "development" in there else there))


def fetch_data_set(
    name: str,
    root: Path,
    *,
    offline: bool = False,
    archives: Mapping[str, Mapping[str, RemoteFile]] | None = None,
) -> str:
    """Fetch `root/<machine type>/{train,test}/*.wav` of the named data set; return the type.

    What is there already is not fetched again; an archive of the right hash in `root` is used.
    Archives are deleted after unpacking. Raises ValueError for an unknown name or a bad archive,
    DownloadError for one that cannot be fetched, whose hash is not known and that is not there, or
    that does not fit on the disk.
    """
    year, machine_type, parts = wanted(name)
    for part in parts:
        file = (archives or ARCHIVES[year])[part][machine_type]
        _fetch_and_unpack(file, root, machine_type, offline=offline)
    return machine_type


def _fetch_and_unpack(file: RemoteFile, root: Path, machine_type: str, *, offline: bool) -> None:
    """Fetch an archive and unpack it once; a marker says that all of it is there."""
    marker = root / ".unpacked" / file.name
    if _is_unpacked(marker, file):
        return
    archive = root / file.name
    if not is_intact(file, archive):
        if not file.hash:
            raise DownloadError(
                f"{file.name} is not downloaded, since its hash is not known here: get {file.page} "
                f"and put it at {archive.absolute()}; it is unpacked from there"
            )
        fetch(file, root, offline=offline, hint="it is unpacked from there")
    with locked(marker):
        if _is_unpacked(marker, file):
            return
        for folder in FOLDERS:
            remove_stale(root / machine_type / folder)
        unpack(archive, root, machine_type)
        write_whole(marker, file.hash)
        archive.unlink()


def _is_unpacked(marker: Path, file: RemoteFile) -> bool:
    return marker.is_file() and marker.read_text() == file.hash


def unpack(archive: Path, root: Path, machine_type: str) -> None:
    """Unpack an archive's clips to `root/<machine type>/<train|test>/`, each whole or not at all.

    Attributes CSVs come with them, except where one of their name is there. A clip that is there
    already with the same content stays; another file of its name is a FileExistsError. Before
    anything is written, an archive is refused (ValueError) that holds a path which leads
    elsewhere, a link, a password-protected clip, one name twice, or far more bytes than recordings
    of its size can have.
    """
    from zipfile import ZipFile

    damaged = f"{archive} is not a whole zip archive; delete it"
    with refusal(damaged, but=(OSError,)):
        opened = ZipFile(archive)
    with opened:
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
        clips = [entry for entry in entries if _is_clip(entry, machine_type)]
        _check(entries, clips, archive)
        if not any(entry.filename.endswith(".wav") for entry in clips):
            raise ValueError(f"{archive} holds no clips of {machine_type!r}")
        missing = [entry for entry in clips if not _is_there(entry, root)]
        needed = sum(entry.file_size for entry in missing)
        free = shutil.disk_usage(root).free
        if needed > free:
            raise DownloadError(
                f"Unpacking {archive} needs {megabytes(needed)}, {megabytes(free)} are free "
                f"at {root}; free some space and run again"
            )
        for entry in missing:
            with refusal(damaged, but=(OSError,)):
                _write(opened, entry, root)


def _check(entries: Sequence[ZipInfo], clips: Sequence[ZipInfo], archive: Path) -> None:
    """Raise a ValueError for an archive that could do harm."""
    for entry in entries:
        path = PurePosixPath(entry.filename)
        escapes = path.is_absolute() or ".." in path.parts or "\\" in entry.filename
        if escapes or ":" in entry.filename or stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(
                f"{archive} is refused: it holds {entry.filename!r}, which leads outside its own "
                "folder or is a link; nothing was unpacked"
            )
    locked = next((entry for entry in clips if entry.flag_bits & 1), None)
    if locked is not None:
        raise ValueError(
            f"{archive} is refused: {locked.filename!r} is protected by a password; unpack it by "
            "hand, or take the published archive"
        )
    names = Counter(PurePosixPath(entry.filename).as_posix() for entry in clips)
    name, count = max(names.items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise ValueError(
            f"{archive} is refused: it holds {name!r} {count} times; nothing was unpacked"
        )
    unpacked, packed = sum(entry.file_size for entry in clips), archive.stat().st_size
    if unpacked > MOST_UNPACKED * packed:
        raise ValueError(
            f"{archive} is refused: its {megabytes(packed)} would unpack to {megabytes(unpacked)}, "
            f"more than {MOST_UNPACKED} times as much; nothing was unpacked"
        )


def _is_clip(entry: ZipInfo, machine_type: str) -> bool:
    """Tell clips of a machine, and what lists their attributes, from other files."""
    path = PurePosixPath(entry.filename)
    if path.parts[:1] != (machine_type,) or path.name.startswith("."):
        return False
    if len(path.parts) == 2:
        return _ATTRIBUTES.fullmatch(path.name) is not None
    return len(path.parts) == 3 and path.parts[1] in FOLDERS and path.suffix == ".wav"


def _is_there(entry: ZipInfo, root: Path) -> bool:
    target = root / entry.filename
    if not target.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{target} leads outside {root} by a link; nothing was unpacked")
    if not target.exists():
        return False
    if _ATTRIBUTES.fullmatch(target.name):
        return True
    if target.stat().st_size == entry.file_size and _crc(target) == entry.CRC:
        return True
    raise FileExistsError(
        f"{target} is another file than the data set's; move it away, or choose another folder"
    )


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _write(opened: ZipFile, entry: ZipInfo, root: Path) -> None:
    target = root / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as temporary, opened.open(entry) as source, temporary.open("xb") as out:
        shutil.copyfileobj(source, out, CHUNK)  # the CRC is checked at the end
