"""Find the clips of a data set: a folder in any known layout, or a manifest."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from embed.recordings.dataset import (
    Clip,
    DataSet,
    FileStats,
    UnknownMachine,
    absolute,
    data_set,
)
from embed.recordings.folders import SupplementalUse, read_folder
from embed.recordings.formats import is_recording
from embed.recordings.layouts import (
    SNR_FOLDER,
    FolderNames,
    check_places,
    split_mimii,
    the_layout,
)
from embed.recordings.manifest import is_manifest, read_manifest
from ground.text import nearest_hint


def find_clips(
    path: str | Path,
    machine_types: Sequence[str] = (),
    ids: Sequence[str] = (),
    supplemental: SupplementalUse = "leave",
) -> DataSet:
    """List the clips of a data folder, of one machine's folder or of a CSV manifest.

    `machine_types` and `ids` restrict them (`id_00` or just `00`). With `supplemental="use"`,
    DCASE's supplemental clips of a machine alone train it too. A path that does not exist is a
    FileNotFoundError, and so are supplemental clips that are to be used and are not there; a
    machine that is not there an UnknownMachine; a folder without any recording, or whose names
    cannot be understood, a ValueError.
    """
    data = Path(path)
    if not data.exists():
        raise FileNotFoundError(
            f"there is no data at {str(data)!r}; give --data a folder of recordings, a CSV "
            "manifest, 'demo' or 'dcase<year>:<machine>'"
        )
    if data.is_dir():
        found = read_folder(absolute(data), supplemental)
    elif supplemental == "use" and is_manifest(data):
        raise FileNotFoundError(
            f"--supplemental use: {str(data)!r} is a manifest; list its supplemental clips as rows "
            "with the split train instead"
        )
    elif is_manifest(data):
        found = read_manifest(data)
    else:
        raise ValueError(
            f"{str(data)!r} is a file; --data takes a folder of recordings (unpack an archive "
            "first) or a CSV manifest"
        )
    found = _restricted(found, machine_types, ids)
    if found.layout not in ("manifest", "plain"):
        check_places(found)
    return split_mimii(found) if found.layout == "mimii" else found


def clips_of_names(names: Iterable[str], source: Path) -> DataSet:
    """Read names that another tool kept, paths below its data root, as `find_clips` reads files.

    `source` is where the names stand; there are no recordings to look at. A name that does not
    tell machine type, split and label is a ValueError.
    """
    found: list[tuple[Clip, FileStats]] = []
    examples: dict[str, str] = {}
    unrecognised: list[str] = []
    for name in sorted(names):
        parent, slash, file_name = name.rpartition("/")
        recording = file_name if is_recording(file_name) else f"{file_name}.wav"
        clip, layout = FolderNames(Path(), parent + slash).clip(recording)
        if clip is None:
            unrecognised.append(name)
        else:
            examples.setdefault(layout, name)
            found.append((replace(clip, key=name), (0, 0)))
    if unrecognised:
        raise ValueError(
            f"{len(unrecognised)} of {len(unrecognised) + len(found)} names in {source} do not "
            f"tell machine type, split and label, first {unrecognised[0]!r}"
        )
    layout, _ = the_layout(source, examples, {clip.machine for clip, _ in found})
    dataset = data_set(source, source.stem, layout, found)
    return split_mimii(dataset) if layout == "mimii" else dataset


def _restricted(found: DataSet, machine_types: Sequence[str], ids: Sequence[str]) -> DataSet:
    """Keep these machine types and IDs; empty sequences keep all."""
    if not machine_types and not ids:
        return found
    types = {clip.machine_type for clip in found.clips}
    if machine_types:
        types = _chosen("machine type", machine_types, types, _without_noise_level)
    all_ids = {clip.machine_id for clip in found.clips if clip.machine_type in types}
    if ids:
        all_ids = _chosen("machine ID", ids, all_ids, lambda name: name.rpartition("_")[2])
    kept = [
        (clip, stats)
        for clip, stats in zip(found.clips, found.stats, strict=True)
        if clip.machine_type in types and clip.machine_id in all_ids
    ]
    return replace(
        found, clips=tuple(clip for clip, _ in kept), stats=tuple(stats for _, stats in kept)
    )


def _without_noise_level(machine_type: str) -> str:
    """Shorten `-6_dB_fan` to `fan`."""
    snr = SNR_FOLDER.fullmatch(machine_type)
    return (snr and snr[1]) or machine_type


def _chosen(
    kind: str, wanted: Iterable[str], there: set[str], short: Callable[[str], str]
) -> set[str]:
    """Pick the names asked for, in full or in short; one that is not there is an error."""
    chosen = set()
    for name in wanted:
        asked = unicodedata.normalize("NFC", name)
        matching = {each for each in there if asked in (each, short(each))}
        if not matching:
            known = dict.fromkeys([*sorted(there), *sorted(map(short, there))])
            raise UnknownMachine(f"the data has no {kind} {name!r}; {nearest_hint(asked, known)}")
        chosen |= matching
    return chosen
