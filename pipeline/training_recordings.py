"""The recordings that a model is learned from, of one folder or several, and their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ground.files import sha256_of
from pipeline.clips import table_of, training_only
from pipeline.explaining import Sound, listen_to
from pipeline.journal import Journal
from pipeline.new_vectors import stacked
from pipeline.settings import LearnSettings
from pipeline.sources import Pair, Source, embed_all, find_dataset, preprocessing_of
from pipeline.windowing import Windows, embed_windows, recording_of, window_key

if TYPE_CHECKING:
    import numpy as np

    from detect.fitting import ClipTable, Read
    from embed.recordings.dataset import DataSet


@dataclass(frozen=True)
class TrainingRecordings:
    """Training clips and their vectors; keys of a second folder begin with the folder."""

    settings: LearnSettings
    table: ClipTable
    sources: Mapping[Pair, Source]
    paths: Mapping[str, Path]
    """The file of each recording, by its key."""

    def recording_of(self, key: str) -> str:
        """Return the key of the recording that a training clip is, or was cut from."""
        return key if self.settings.window is None else recording_of(key)

    def minutes(self, keys: Sequence[str]) -> float:
        """Add up the lengths of recordings; one whose header does not tell it counts nothing."""
        from embed.recordings.audio import seconds_of

        return sum(seconds_of(self.paths[key]) for key in keys) / 60

    def hashes(self, keys: Sequence[str]) -> list[str]:
        """Return the SHA-256 of recordings."""
        return [sha256_of(self.paths[key]) for key in keys]

    def sounds(self, keys: Sequence[str]) -> Iterator[Sound]:
        """Listen to training clips as they were recorded; those that cannot be read are skipped."""
        channel = preprocessing_of(self.settings).channel
        windows = Windows.of(self.settings.window, self.settings.hop)
        if windows is None:
            for key in keys:
                sound = listen_to(self.paths[key], channel)
                if sound is not None:
                    yield sound
            return
        wanted = set(keys)
        for recording in dict.fromkeys(map(recording_of, keys)):
            for start_s, sound in _windows_heard(self.paths[recording], channel, windows):
                if window_key(recording, start_s) in wanted:
                    yield sound


def _windows_heard(
    path: Path, channel: int | str, windows: Windows
) -> Iterator[tuple[float, Sound]]:
    """Listen to the windows of a recording, up to what cannot be read."""
    from embed.recordings.dataset import ClipError
    from embed.recordings.preprocessing import Preprocessing
    from embed.recordings.windows import windows_of
    from pipeline.explaining import SAMPLE_RATE, file_rate_of

    file_rate = file_rate_of(path)
    as_recorded = Preprocessing(channel=channel)  # type: ignore[arg-type]
    try:
        for window in windows_of(path, SAMPLE_RATE, windows.length_s, windows.hop_s, as_recorded):
            yield window.start_s, Sound(window.waveform, file_rate)
    except ClipError:
        return


def find_training_recordings(
    settings: LearnSettings, roots: Sequence[str], pairs: Sequence[Pair], journal: Journal
) -> TrainingRecordings:
    """Find the normal training recordings of all roots, and compute or read their vectors.

    ValueError where a root has none, or where an encoder cannot be had.
    """
    paths: dict[str, Path] = {}
    tables: list[ClipTable] = []
    owners: dict[str, tuple[int, str]] = {}
    all_sources: list[dict[Pair, Source]] = []
    for number, root in enumerate(roots):
        dataset = find_dataset(replace(settings, data=root))
        for skipped in dataset.skipped:
            journal.leave_out(skipped.key, skipped.reason)
        dataset = training_only(dataset)
        table, sources = _vectors(settings, dataset, pairs, journal)
        prefix = f"{dataset.root}/" if number else ""
        owners |= {prefix + key: (number, key) for key in table.key}
        paths |= {prefix + clip.key: dataset.path(clip.key) for clip in dataset.clips}
        columns = {"key": tuple(prefix + key for key in table.key)}
        columns["group"] = tuple(group and prefix + group for group in table.group)
        tables.append(replace(table, **columns))
        all_sources.append(sources)
    return TrainingRecordings(settings, _joined(tables), _together(owners, all_sources), paths)


def _vectors(
    settings: LearnSettings, dataset: DataSet, pairs: Sequence[Pair], journal: Journal
) -> tuple[ClipTable, dict[Pair, Source]]:
    """Compute the vectors of the recordings, or of their windows."""
    if settings.window is not None:
        return embed_windows(settings, dataset, pairs, journal)
    sources, unusable = embed_all(settings, dataset, pairs, journal)
    if unusable:
        raise ValueError("; ".join(dict.fromkeys(unusable.values())))
    return table_of(dataset), sources


def _joined(tables: Sequence[ClipTable]) -> ClipTable:
    columns = {
        f.name: tuple(value for table in tables for value in getattr(table, f.name))
        for f in fields(tables[0])
    }
    return replace(tables[0], **columns)


def _together(
    owners: Mapping[str, tuple[int, str]], all_sources: Sequence[Mapping[Pair, Source]]
) -> dict[Pair, Source]:
    """Read the vectors of several roots as one source each."""
    if len(all_sources) == 1:
        return dict(all_sources[0])
    joined = {}
    for pair, source in all_sources[0].items():
        own = [sources[pair] for sources in all_sources]
        keys = frozenset(key for key, (i, own_key) in owners.items() if own_key in own[i].keys)

        def narrowed(keys: Sequence[str], own: Sequence[Source] = own) -> Read:
            return partial(_read, own, {key: owners[key] for key in keys})

        joined[pair] = replace(
            source, read=partial(_read, own, owners), keys=keys, narrowed=narrowed
        )
    return joined


def _read(
    sources: Sequence[Source], owners: Mapping[str, tuple[int, str]], keys: Sequence[str]
) -> np.ndarray:
    """Read each root's vectors at once, and put them into the order of the keys."""
    rows: dict[str, np.ndarray] = {}
    for number, source in enumerate(sources):
        own = [key for key in keys if owners[key][0] == number]
        if own:
            rows |= zip(own, source.read([owners[key][1] for key in own]), strict=True)
    return stacked([rows[key] for key in keys])
