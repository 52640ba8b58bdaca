"""What a run's page shows beside numbers: clips to hear, with reasons, and a map of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.explaining import (
    SAMPLE_RATE,
    ErrorMap,
    MachineProfile,
    frames_of,
    learn_profile,
    listen_to,
)
from pipeline.model import Model
from pipeline.parts import encoder_class
from pipeline.rating import Judge

if TYPE_CHECKING:
    import numpy as np

    from embed.recordings.dataset import DataSet
    from pipeline.judging import MemberFits
    from report.embedding_map import EmbeddingMap
    from report.heard_clips import HeardClip, Picture, Player, Rebuilt, WorstClip
    from report.machine_scores import MachineScores

CLIPS_PER_PROFILE = 20
"""Normal clips per machine that a page compares with; more cost time and change it little."""
NEIGHBOURS = 200
"""Normal clips per machine among which the nearest one is sought."""
BYTES_OF_MEDIA = 7_000_000
"""Of sounds and pictures on a page, so that it can be mailed."""
ATTENTION_MAPS = 6
"""On a page; each costs a pass of the network."""


@dataclass(frozen=True)
class Evidence:
    """What a page shows of one run, beside its numbers."""

    heard: Mapping[str, HeardClip] = field(default_factory=dict)
    """By clip key."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Why each of these clips is shown."""
    points: EmbeddingMap | None = None


def page_evidence(
    machines: Sequence[MachineScores],
    fits: Sequence[MemberFits],
    model: Model,
    dataset: DataSet,
    *,
    n_clips: int,
    method: Literal["pca", "umap"] = "pca",
    advance: Callable[[], object] = lambda: None,
) -> Evidence:
    """Gather sounds, pictures and reasons of the worst clips of `machines`, and the map of all.

    At most `n_clips` are shown per machine, fewer where the machines are many. `advance` is called
    after each machine. A clip whose recording cannot be read is left out; an error of anything
    else is raised.
    """
    from report.heard_clips import CLIPS_ON_A_PAGE, worst_clips

    heard: dict[str, HeardClip] = {}
    why: dict[str, str] = {}
    per_machine = min(n_clips, max(1, CLIPS_ON_A_PAGE // max(1, len(machines))))
    attend = _attention(fits, dataset) if n_clips else None
    for machine in machines if n_clips else ():
        worst = worst_clips(machine, per_machine)
        own = _machine_clips(machine, worst, fits, model, dataset)
        size = 0
        for drawn in own:
            picture = attend(drawn.key) if attend and len(heard) < ATTENTION_MAPS else None
            more = [] if picture is None else [picture]
            clip = replace(drawn, pictures=[*drawn.pictures, *more])
            size += clip.size
            if size > BYTES_OF_MEDIA / len(machines):
                break
            heard[clip.key] = clip
        advance()
        why |= {clip.key: clip.why for clip in worst}
    return Evidence(heard, why, _points(machines, fits, heard, method))


def rebuilt_of(errors: ErrorMap | None) -> Rebuilt | None:
    """Turn the errors of an autoencoder into what a page draws."""
    from report.heard_clips import Rebuilt

    if errors is None:
        return None
    bands = errors.bands
    return Rebuilt(errors.reconstruction, bands.low_hz, bands.high_hz, bands.frame_seconds)


def _machine_clips(
    machine: MachineScores,
    worst: Sequence[WorstClip],
    fits: Sequence[MemberFits],
    model: Model,
    dataset: DataSet,
) -> list[HeardClip]:
    """Explain the worst clips of one machine; nothing where its recordings cannot be read."""
    from report.heard_clips import heard_clip

    name = machine.machine_type, machine.machine_id
    if name not in model.names:
        return []
    loaded = model.load(model.names[name], trust_classes=True)
    profile = _profile(machine, fits[0], dataset)
    if profile is None:
        return []
    judge = Judge(model, replace(loaded, profile=profile), *name)
    shown: list[HeardClip] = []
    neighbours: dict[str, Player | None] = {}
    for clip in worst:
        path = dataset.path(clip.key)
        sound = listen_to(path, _channel(fits)) if path.is_file() else None
        if sound is None:
            continue
        vectors = {
            number: fit.source.read([clip.key])[0]
            for number, fit in enumerate(fits)
            if clip.key in fit.source.keys
        }
        (row,) = judge.rows([clip.key], [vectors])
        frames = frames_of(sound.waveform)
        explained = judge.explain(frames, row, vectors)
        reason = explained.reason
        if reason.nearest is not None and reason.nearest not in neighbours:
            neighbours[reason.nearest] = _nearest(reason.nearest, dataset, fits)
        drawn = heard_clip(
            clip.key,
            sound.waveform,
            SAMPLE_RATE,
            frames,
            profile.sounds,
            replace(reason, nearest=None),
            rebuilt_of(explained.errors),
        )
        shown.append(replace(drawn, nearest=neighbours.get(reason.nearest or "")))
    return shown


def _profile(machine: MachineScores, fit: MemberFits, dataset: DataSet) -> MachineProfile | None:
    """Learn what some normal training clips of a machine sound like, and keep their vectors."""
    import numpy as np

    table = fit.table
    keys = [
        key
        for key, machine_type, machine_id, split, label in zip(
            table.key, table.machine_type, table.machine_id, table.split, table.label, strict=True
        )
        if (machine_type, machine_id) == (machine.machine_type, machine.machine_id)
        and (split, label) == ("train", "normal")
    ]
    if not keys:
        return None
    near = _some(keys, NEIGHBOURS)
    vectors: np.ndarray | None = np.asarray(fit.source.read(near))
    if vectors is not None and vectors.ndim != 2:
        vectors = None
    stats = dataset.file_stats()
    heard = [
        (dataset.path(key), stats.get(key))
        for key in _some(keys, CLIPS_PER_PROFILE)
        if dataset.path(key).is_file()
    ]
    learned = _learned(tuple(heard), _channel([fit]))
    return None if learned is None else replace(learned, keys=near, vectors=vectors)


@lru_cache(maxsize=64)
def _learned(files: tuple[tuple[Path, object], ...], channel: int | str) -> MachineProfile | None:
    """Learn from files, each with its size and time; once for all combinations of a grid."""
    heard = (listen_to(path, channel) for path, _ in files)
    return learn_profile(sound for sound in heard if sound is not None)


def _some(keys: Sequence[str], n: int) -> list[str]:
    """Choose at most n of the keys, evenly."""
    return list(keys[:: -(-len(keys) // n)]) if keys else []


def _channel(fits: Sequence[MemberFits]) -> int | str:
    """Return the channel that the vectors were computed from."""
    rebuild = fits[0].source.configuration.get("rebuild", {})
    channel: int | str = rebuild.get("preprocessing", {}).get("channel", 0)
    return channel


def _nearest(key: str, dataset: DataSet, fits: Sequence[MemberFits]) -> Player | None:
    from report.heard_clips import nearest_player

    sound = listen_to(dataset.path(key), _channel(fits))
    return None if sound is None else nearest_player(key, sound.waveform, SAMPLE_RATE)


def _attention(
    fits: Sequence[MemberFits], dataset: DataSet
) -> Callable[[str], Picture | None] | None:
    """Return what draws an encoder's attention over a clip; None where no encoder shows it."""
    from embed.fingerprint import encoder_from
    from embed.recordings.audio import load_recording
    from report.heard_clips import attention_picture

    shows = (
        f.source for f in fits if f.source.configuration and _shows_attention(f.source.encoder)
    )
    source = next(shows, None)
    if source is None:
        return None
    parts = encoder_from(source.configuration, device="cpu", offline=True, trust_classes=True)
    encoder: Any = parts[0]

    def attend(key: str) -> Picture | None:
        path, rate = dataset.path(key), encoder.sample_rate
        waveform = load_recording(path, rate, encoder.min_samples, parts[1]).waveform
        if len(encoder.windows(len(waveform))) > 1:
            return None
        attention, centres = encoder.attention_map(waveform), encoder.patch_centres_hz
        return attention_picture(attention, source.encoder, centres)

    return attend


def _shows_attention(encoder: str) -> bool:
    return hasattr(encoder_class(encoder.partition(":")[0]), "attention_map")


def _points(
    machines: Sequence[MachineScores],
    fits: Sequence[MemberFits],
    heard: Mapping[str, Any],
    method: Literal["pca", "umap"],
) -> EmbeddingMap | None:
    """Place test clips by the vectors of the first member; those that are heard are among them."""
    from report.embedding_map import POINTS_AT_MOST, embedding_map

    source = fits[0].source
    keys = [key for machine in machines for key in machine.keys if key in source.keys]
    chosen = _some(keys, POINTS_AT_MOST)
    chosen = list(dict.fromkeys([*(key for key in heard if key in source.keys), *chosen]))
    if len(chosen) < 3:
        return None
    of = f"{source.encoder} {source.pooling} of the test clips,"
    with suppress(ValueError):
        return embedding_map(chosen, source.read(chosen), method, of)
    return None
