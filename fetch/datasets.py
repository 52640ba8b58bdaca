"""Public data sets by name: `dcase2020:slider` is downloaded, verified and unpacked once.

DCASE 2020 Challenge Task 2 (Koizumi et al. 2020; CC BY-NC-SA 4.0), whose machines come from
ToyADMOS (Koizumi et al. 2019) and MIMII (Purohit et al. 2019). Checksums are the records'.
"""

from __future__ import annotations

import shutil
import stat
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from fetch.download import DownloadError, RemoteFile, fetch, is_intact, megabytes
from fetch.places import locked
from fetch.reading import refusal
from ground.files import remove_stale, whole_file, write_whole

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

CHUNK = 1 << 20
MOST_UNPACKED = 20
"""Recordings take at most this many times the bytes of their archive; a zip bomb takes 1000."""


class Wanted(NamedTuple):
    """Machine type and parts of the data set that `dcase2020:slider+evaluation` names."""

    machine_type: str
    parts: tuple[str, ...]


def _part(
    doi: str, prefix: str, about: str, checksums: Mapping[str, tuple[str, int]]
) -> dict[str, RemoteFile]:
    """Describe a Zenodo record of one archive per machine type, given MD5 and size of each."""
    page = f"https://zenodo.org/records/{doi.rpartition('.')[2]}/files"
    names = {machine_type: f"{prefix}_{machine_type}.zip" for machine_type in checksums}
    return {
        machine_type: RemoteFile(
            name=names[machine_type],
            urls=(f"doi:{doi}/{names[machine_type]}", f"{page}/{names[machine_type]}?download=1"),
            hash=f"md5:{md5}",
            size=size,
            about_size=about,
        )
        for machine_type, (md5, size) in checksums.items()
    }


DCASE2020: dict[str, dict[str, RemoteFile]] = {
    "development": _part(
        "10.5281/zenodo.3678171",
        "dev_data",
        "1 to 2 GB",
        {
            "fan": ("649bdfc06263ae7a838963f43b6641e6", 1_354_774_772),
            "pump": ("90e7091ef722b7238a7f1009365779cd", 1_031_279_015),
            "slider": ("da24a757719f0d94d5aa2d646bbfdc86", 1_002_998_966),
            "ToyCar": ("4dec75ca8d9f666aa9e4c1894a740501", 1_816_443_231),
            "ToyConveyor": ("03b6aa1bfd09a39d53af0ba39f71fa91", 0),
            "valve": ("34d2672f55bb041589ef79c10dc89934", 0),
        },
    ),
    "additional": _part(
        "10.5281/zenodo.3727685",
        "eval_data_train",
        "about 1 GB",
        {
            "fan": ("567798854130c8019df8b664c095ed1e", 0),
            "pump": ("4e33ae9c0db5cc88437675f5e317caee", 0),
            "slider": ("f84f186f4295fc23754abcdd1b0580a7", 0),
            "ToyCar": ("a5d4ccd498af70b04dd74b644b820006", 861_354_584),
            "ToyConveyor": ("0e808ac0b761e9fb13d5e0c65caff00d", 0),
            "valve": ("057cdd560caffb8305449541afd28c6d", 0),
        },
    ),
    "evaluation": _part(
        "10.5281/zenodo.3841772",
        "eval_data_test",
        "less than 1 GB",
        {
            "fan": ("1eb9356a768cadfd0f2e59a5c57e578b", 0),
            "pump": ("23a8f8f924be218c69df67fe07360348", 0),
            "slider": ("0193c769073840332ce3aad84b1ccaa2", 0),
            "ToyCar": ("bea2bdd612f616be8f2b8eb087b32c7c", 0),
            "ToyConveyor": ("ccfcc9847c7d3404d7ee9d6d9e0b2ba2", 0),
            "valve": ("f69c551d2088691050d20cccca9d631c", 0),
        },
    ),
}
"""Part of the data set, machine type -> archive. Sizes of 0 are not known in advance."""


def wanted(name: str) -> Wanted:
    """Read `dcase2020:<machine type>`, with `+additional` and `+evaluation` if they are wanted.

    Additional training clips and (unlabelled) evaluation clips are of other machine IDs than the
    development set, which is always fetched. ValueError for other names.
    """
    data_set, _, rest = name.partition(":")
    machine_type, *parts = rest.split("+")
    types = {known.lower(): known for known in DCASE2020["development"]}
    more = [part for part in DCASE2020 if part != "development"]
    if data_set != "dcase2020" or machine_type.lower() not in types or not set(parts) <= set(more):
        raise ValueError(
            f"No data set {name!r}: there is dcase2020:<machine>, with <machine> one of "
            f"{', '.join(types.values())}, and +{' and +'.join(more)} after it if wanted"
        )
    return Wanted(
        types[machine_type.lower()], ("development", *(part for part in more if part in parts))
    )


def fetch_data_set(
    name: str,
    root: Path,
    *,
    offline: bool = False,
    archives: Mapping[str, Mapping[str, RemoteFile]] = DCASE2020,
) -> str:
    """Fetch `root/<machine type>/{train,test}/*.wav` of the named data set; return the type.

    What is there already is not fetched again; an archive of the right hash in `root` is used.
    Archives are deleted after unpacking. Raises ValueError for an unknown name or a bad archive,
    DownloadError for one that cannot be fetched or does not fit on the disk.
    """
    machine_type, parts = wanted(name)
    for part in parts:
        _fetch_and_unpack(archives[part][machine_type], root, machine_type, offline=offline)
    return machine_type


def _fetch_and_unpack(file: RemoteFile, root: Path, machine_type: str, *, offline: bool) -> None:
    """Fetch an archive and unpack it once; a marker says that all of it is there."""
    marker = root / ".unpacked" / file.name
    if _is_unpacked(marker, file):
        return
    archive = root / file.name
    if not is_intact(file, archive):
        fetch(file, root, offline=offline, hint="it is unpacked from there")
    with locked(marker):
        if _is_unpacked(marker, file):
            return
        for folder in ("train", "test"):
            remove_stale(root / machine_type / folder)
        unpack(archive, root, machine_type)
        write_whole(marker, file.hash)
        archive.unlink()


def _is_unpacked(marker: Path, file: RemoteFile) -> bool:
    return marker.is_file() and marker.read_text() == file.hash


def unpack(archive: Path, root: Path, machine_type: str) -> None:
    """Unpack an archive's clips to `root/<machine type>/<train|test>/`, each whole or not at all.

    A clip that is there already with the same content stays; another file of its name is a
    FileExistsError. Before anything is written, an archive is refused (ValueError) that holds a
    path which leads elsewhere, a link, a password-protected clip, one name twice, or far more
    bytes than recordings of its size can have.
    """
    from zipfile import ZipFile

    damaged = f"{archive} is not a whole zip archive; delete it"
    with refusal(damaged, but=(OSError,)):
        opened = ZipFile(archive)
    with opened:
        entries = [entry for entry in opened.infolist() if not entry.is_dir()]
        clips = [entry for entry in entries if _is_clip(entry, machine_type)]
        _check(entries, clips, archive)
        if not clips:
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
    path = PurePosixPath(entry.filename)
    return (
        len(path.parts) == 3
        and path.parts[0] == machine_type
        and path.parts[1] in ("train", "test")
        and path.suffix == ".wav"
        and not path.name.startswith(".")
    )


def _is_there(entry: ZipInfo, root: Path) -> bool:
    target = root / entry.filename
    if not target.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{target} leads outside {root} by a link; nothing was unpacked")
    if not target.exists():
        return False
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
