"""Normal recordings become a model: thresholds and verdicts without any label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import one_line
from pipeline.clips import table_of, training_only
from pipeline.exits import UsageError
from pipeline.explaining import CLIPS_PER_PROFILE, SAMPLE_RATE, MachineProfile, learn_profile
from pipeline.fusing import Fused, fuse_members
from pipeline.journal import Journal
from pipeline.judging import MemberFits, judge
from pipeline.model import Model, load_model, save_model
from pipeline.parts import weights_for_detectors
from pipeline.plan import Combination, combinations_of
from pipeline.screen import progress, relay_rooms
from pipeline.settings import LearnSettings, given_from_python, settings_of
from pipeline.sources import Pair, Source, embed_all, find_dataset
from pipeline.windowing import embed_windows

if TYPE_CHECKING:
    import numpy as np

    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet


@dataclass(frozen=True)
class Learned:
    """A model and what learning it showed."""

    model: Model
    left_out: Sequence[tuple[str, str]]
    failed: Sequence[str]
    """Machines that could not be learned, each with the reason."""


def learn(recordings: str | Path, model: str | Path = "model", **flags: Any) -> Learned:
    """Learn normal recordings; `flags` are those of the command `learn`, by name.

    Raises ValueError and OSError with one-line messages, as the command prints them.
    """
    given = given_from_python(**flags, data=recordings)
    settings = settings_of(LearnSettings, {**given, "model": Path(model)})
    return learn_model(settings)


def learn_model(settings: LearnSettings) -> Learned:
    """Embed the normal recordings, fit, hold out, save."""
    relay_rooms(quiet=settings.quiet)
    roots = [settings.data]
    if settings.add:
        earlier = load_model(settings.model)
        roots = [*earlier.facts["data"], settings.data]
        settings = _settings_of(earlier, settings)
    combination = _one_combination(settings)
    journal = Journal()
    pairs = [member.source for member in combination.members]
    datasets, table, sources = _all_vectors(settings, roots, pairs, journal)
    weights, unusable = weights_for_detectors(
        settings, [member.detector for member in combination.members]
    )
    ((_, judged),) = judge(
        settings, table, sources, [combination], weights, unusable, journal, tested_only=False
    )
    if isinstance(judged, str):
        raise ValueError(judged)
    machines = fuse_members(judged, combination.rule)
    failed = [machine.reason for machine in machines if machine.reason]
    if all(machine.scores is None for machine in machines):
        raise ValueError("; ".join(failed) or "there is no machine to learn")
    model = save_model(
        settings.model,
        combination,
        judged,
        machines,
        facts_of=facts_of_machines(combination, datasets, judged, machines),
        profiles=_profiles(settings, datasets, judged, machines),
        data=[str(dataset.root) for dataset in datasets],
        keep_history=True,
    )
    return Learned(model, journal.left_out, failed)


def _settings_of(model: Model, settings: LearnSettings) -> LearnSettings:
    """Take over how a model was learned, with the folder and the output flags of now."""
    own = {"data", "model", "add", "recalibrate", "quiet", "json", "workers", "device", "cache_dir"}
    earlier = {
        f.name: model.settings[f.name]
        for f in fields(LearnSettings)
        if f.name in model.settings and f.name not in own
    }
    return replace(settings, **earlier)


def _one_combination(settings: LearnSettings) -> Combination:
    combinations, refused = combinations_of(settings)
    if len(combinations) + len(refused) > 1:
        raise UsageError(
            f"learn makes one model, and these flags name {len(combinations) + len(refused)}; "
            "name one encoder, pooling and detector, or one --system"
        )
    return combinations[0]


def _all_vectors(
    settings: LearnSettings, roots: Sequence[str], pairs: Sequence[Pair], journal: Journal
) -> tuple[list[DataSet], ClipTable, dict[Pair, Source]]:
    """Find the training recordings of all roots, and compute or read their vectors.

    Keys of the second root and further ones begin with the root, so that they stay apart.
    """
    datasets, tables, all_sources = [], [], []
    for root in roots:
        dataset = find_dataset(replace(settings, data=root))
        for skipped in dataset.skipped:
            journal.leave_out(skipped.key, skipped.reason)
        dataset = training_only(dataset)
        table, sources = _vectors(settings, dataset, pairs, journal)
        datasets.append(dataset)
        tables.append(table)
        all_sources.append(sources)
    if len(roots) == 1:
        return datasets, tables[0], all_sources[0]
    prefixes = ["", *(f"{dataset.root}/" for dataset in datasets[1:])]
    columns = {
        f.name: tuple(value for table in tables for value in getattr(table, f.name))
        for f in fields(tables[0])
    }
    columns["key"] = tuple(
        prefix + key for prefix, table in zip(prefixes, tables, strict=True) for key in table.key
    )
    return datasets, replace(tables[0], **columns), _together(prefixes, all_sources)


def _together(
    prefixes: Sequence[str], all_sources: Sequence[Mapping[Pair, Source]]
) -> dict[Pair, Source]:
    """Read the vectors of several roots as one source each, by the prefix of the key."""
    return {
        pair: replace(
            source,
            read=partial(
                _read_by_prefix,
                [(prefix, own[pair]) for prefix, own in zip(prefixes, all_sources, strict=True)],
            ),
            keys=frozenset(
                prefix + key
                for prefix, own in zip(prefixes, all_sources, strict=True)
                for key in own[pair].keys
            ),
        )
        for pair, source in all_sources[0].items()
    }


def _read_by_prefix(sources: Sequence[tuple[str, Source]], keys: Sequence[str]) -> np.ndarray:
    import numpy as np

    def read(key: str) -> np.ndarray:
        prefix, source = next(
            (prefix, source) for prefix, source in reversed(sources) if key.startswith(prefix)
        )
        row: np.ndarray = source.read([key.removeprefix(prefix)])[0]
        return row

    return np.stack([read(key) for key in keys])


def _vectors(
    settings: LearnSettings, dataset: DataSet, pairs: Sequence[Pair], journal: Journal
) -> tuple[ClipTable, dict[Pair, Source]]:
    """Compute the vectors of the recordings, or of their windows."""
    if settings.window is not None:
        return embed_windows(settings, dataset, pairs, journal)
    sources, unusable = embed_all(settings, dataset, pairs, journal)
    if unusable:
        raise ValueError("; ".join(f"{name}: {why}" for name, why in unusable.items()))
    return table_of(dataset), sources


def facts_of_machines(
    combination: Combination,
    datasets: Sequence[DataSet],
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
) -> dict[tuple[str, str], dict[str, Any]]:
    """Say of each machine what it was learned from, and what its threshold promises."""
    seconds = _seconds(datasets)
    found = {}
    for machine in machines:
        unit = machine.unit
        recordings = {
            group or key for key, group in zip(unit.train_keys, unit.train_groups, strict=True)
        }
        outliers = [
            outlier.key
            for fit in fits[:1]
            for outlier in fit.outliers
            if outlier.machine == unit.name
        ]
        found[unit.machine_type, unit.machine_id] = {
            "recordings": len(recordings),
            "minutes": sum(seconds.get(name, 0.0) for name in recordings) / 60,
            "worth_a_listen": outliers,
            "promise": _promise(combination, machine),
            "notes": list(machine.notes),
        }
    return found


def _promise(combination: Combination, machine: Fused) -> str:
    """Say in a sentence what the threshold of a machine promises, and what more clips would."""
    from detect.thresholds import clips_needed, threshold_of

    settings = combination.settings
    if isinstance(machine.calibration, str):
        return f"no verdicts: {machine.calibration}"
    n_clips = len(machine.calibration.scores)
    try:
        threshold = threshold_of(
            machine.calibration.scores, settings.false_alarms, settings.confidence
        )
    except ValueError as error:
        return f"no verdicts: {one_line(error)}"
    rate = threshold.false_alarm_rate
    further = 0.01 if rate > 0.01 else 0.001
    sure = f" with confidence {settings.confidence:g}" if settings.confidence else ""
    more = clips_needed(further, settings.confidence)
    text = f"at most {100 * rate:.3g} % false alarms{sure} from {n_clips} clips"
    return f"{text}; {100 * further:g} % needs {more} clips" if more > n_clips else text


def _profiles(
    settings: LearnSettings,
    datasets: Sequence[DataSet],
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
) -> dict[tuple[str, str], MachineProfile]:
    """Learn what each machine's recordings sound like, from some of them where they are many."""
    paths = _paths(datasets)
    profiles = {}
    with progress("listen to", len(machines), "machines", quiet=settings.quiet) as advance:
        for machine in machines:
            advance()
            if machine.scores is None:
                continue
            keys = machine.unit.train_keys
            some = keys[:: -(-len(keys) // CLIPS_PER_PROFILE)]
            vectors = fits[0].source.read(some)
            profile = learn_profile(
                _waveforms(settings, paths, some), some, vectors if vectors.ndim == 2 else None
            )
            if profile is not None:
                profiles[machine.unit.machine_type, machine.unit.machine_id] = profile
    return profiles


def _paths(datasets: Sequence[DataSet]) -> dict[str, Path]:
    """Find the file of each training recording, under the keys of `_all_vectors`."""
    prefixes = ["", *(f"{dataset.root}/" for dataset in datasets[1:])]
    return {
        prefix + clip.key: dataset.path(clip.key)
        for prefix, dataset in zip(prefixes, datasets, strict=True)
        for clip in dataset.clips
    }


def _waveforms(
    settings: LearnSettings, paths: Mapping[str, Path], keys: Sequence[str]
) -> Iterator[tuple[np.ndarray, int]]:
    """Read clips, or windows by their keys, at the profile's sample rate; skip unreadable ones."""
    from embed.recordings.audio import Need, load_for
    from embed.recordings.dataset import ClipError
    from embed.recordings.preprocessing import Preprocessing
    from embed.recordings.windows import windows_of

    plain = Preprocessing()
    if settings.window is None:
        for key in keys:
            (recording,) = load_for(paths[key], [Need(SAMPLE_RATE, 1)], plain)
            if not isinstance(recording, ClipError):
                yield recording.waveform, SAMPLE_RATE
        return
    starts: dict[str, set[str]] = {}
    for key in keys:
        recording_key, _, start = key.rpartition("@")
        starts.setdefault(recording_key, set()).add(start)
    for recording_key, wanted in starts.items():
        hop = settings.hop or settings.window / 2
        for window in windows_of(paths[recording_key], SAMPLE_RATE, settings.window, hop, plain):
            if f"{window.start_s:g}" in wanted:
                yield window.waveform, SAMPLE_RATE


def _seconds(datasets: Sequence[DataSet]) -> dict[str, float]:
    """Return the length of each recording in seconds, by key; of those whose header tells it."""
    from embed.recordings.audio import seconds_of

    return {
        clip.key: seconds_of(dataset.path(clip.key))
        for dataset in datasets
        for clip in dataset.clips
    }
