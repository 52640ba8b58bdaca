"""Why a clip is judged so: what normal recordings sound like, and where a clip differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import write_whole

if TYPE_CHECKING:
    import numpy as np

    from detect.profile import NormalProfile
    from detect.reasons import Reason
    from detect.reconstruction import Reconstruction
    from embed.feature_bands import FeatureBands
    from embed.recording_facts import FactRanges
    from pipeline.model import LoadedMember
    from pipeline.new_vectors import Rows

CLIPS_PER_PROFILE = 200
"""Recordings per machine that a profile is learned from; more change it little."""
SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class MachineProfile:
    """What a machine's normal recordings sound like."""

    sounds: NormalProfile
    """Levels per band of log-mel frames."""
    ranges: FactRanges
    """Level, bandwidth, length and so on of the training recordings."""
    keys: Sequence[str] = ()
    """Training clips that a new one is compared with, to name the nearest."""
    vectors: np.ndarray | None = None
    """Their vectors by the first member, `(n_clips, dim)`."""

    def save(self, folder: Path) -> list[Path]:
        """Write the profile into a machine's folder; return the files."""
        from safetensors.numpy import save

        sounds = {
            name: value.tolist() if hasattr(value, "tolist") else value
            for name, value in self.sounds.to_dict().items()
        }
        facts = {"sounds": sounds, "ranges": self.ranges.to_dict(), "keys": list(self.keys)}
        written = [folder / "profile.json"]
        write_whole(written[0], json.dumps(facts))
        if self.vectors is not None:
            written.append(folder / "nearest.safetensors")
            write_whole(written[1], save({"vectors": self.vectors}))
        return written

    @classmethod
    def load(cls, folder: Path) -> MachineProfile | None:
        """Read the profile of a machine's folder; None where learning made none."""
        from detect.profile import NormalProfile
        from embed.recording_facts import FactRanges

        file, vectors = folder / "profile.json", folder / "nearest.safetensors"
        if not file.exists():
            return None
        facts = json.loads(file.read_text(encoding="utf-8"))
        if vectors.exists():
            from safetensors.numpy import load_file

            nearest = load_file(vectors)["vectors"]
        else:
            nearest = None
        return cls(
            NormalProfile.from_dict(facts["sounds"]),
            FactRanges.from_dict(facts["ranges"]),
            facts["keys"],
            nearest,
        )


@dataclass(frozen=True)
class Sound:
    """A clip as it was recorded, for profiles and reasons: before any normalisation."""

    waveform: np.ndarray
    """At 16 kHz."""
    file_rate: int
    """Sample rate of its file in Hz."""


def listen_to(path: Path, channel: int | str) -> Sound | None:
    """Read a recording as it is; None for one that cannot be read, which its encoder says."""
    from embed.recordings.audio import load_recording
    from embed.recordings.dataset import ClipError
    from embed.recordings.preprocessing import Preprocessing

    try:
        as_recorded = Preprocessing(channel=channel)  # type: ignore[arg-type]
        recording = load_recording(path, SAMPLE_RATE, 1, as_recorded)
        return Sound(recording.waveform, file_rate_of(path))
    except ClipError:
        return None


def file_rate_of(path: Path) -> int:
    """Read the sample rate of a recording, in Hz, from its header; ClipError where it has none."""
    from embed.recordings.decoding import opened

    with path.open("rb") as file, opened(file, path.name) as sound:
        return sound.sample_rate


def learn_profile(
    sounds: Iterable[Sound],
    keys: Sequence[str] = (),
    vectors: np.ndarray | None = None,
) -> MachineProfile | None:
    """Learn what recordings sound like, one at a time; None where there is none."""
    from detect.profile import ProfileLearner
    from embed.feature_bands import mel_bands
    from embed.recording_facts import FactRanges, recording_facts

    edges = mel_bands()
    learner = ProfileLearner(edges[:-1], edges[1:], _log_mel().hop_length / SAMPLE_RATE)
    ranges: FactRanges | None = None
    for sound in sounds:
        learner.update(frames_of(sound.waveform))
        facts = recording_facts(sound.waveform, SAMPLE_RATE, sound.file_rate)
        ranges = FactRanges.of([facts]) if ranges is None else ranges | facts
    if ranges is None:
        return None
    return MachineProfile(learner.profile(), ranges, keys, vectors)


def frames_of(waveform: np.ndarray) -> np.ndarray:
    """Compute the log-mel frames of samples at 16 kHz: `(n_frames, 128)` in dB."""
    from embed import make_pooling

    frames: np.ndarray = _log_mel().encode(waveform[None], [make_pooling("frames")])[0][0]
    return frames


@cache
def _log_mel() -> Any:
    from embed import make_encoder

    return make_encoder("logmel")


@dataclass(frozen=True)
class ErrorMap:
    """What a member rebuilds of a clip, and the bands that its numbers are about."""

    by: str
    """The member that it is, or "" for the only one."""
    reconstruction: Reconstruction
    bands: FeatureBands


@dataclass(frozen=True)
class Explanation:
    """Why a clip is judged so."""

    reason: Reason
    errors: ErrorMap | None = None
    """Of the autoencoder with the largest share of the score, where there is one."""


@dataclass(frozen=True)
class _View:
    """What one member with known bands contributed to a clip's score."""

    name: str
    share: float
    bands: FeatureBands
    values: np.ndarray
    """Contributions of its numbers, (dim,)."""
    reconstruction: Reconstruction | None


def explain_clip(
    profile: MachineProfile,
    frames: np.ndarray,
    members: Sequence[LoadedMember],
    vectors: Rows,
    z: Mapping[str, float],
) -> Explanation:
    """Find the bands and seconds that deviate most, where the detectors look.

    `vectors` are the clip's by the number of the member, `z` the members' z-scores by name.
    """
    from detect.contributions import member_shares
    from detect.reasons import explain

    shares = member_shares(z) if z else {}
    short = _without_detectors(shares)
    views = _views(members, vectors, shares)
    reason = explain(
        frames,
        profile.sounds,
        weights=_weights(profile, views),
        shares={short[name]: share for name, share in shares.items()},
        nearest=_nearest(profile, vectors),
    )
    kinds = {short.get(view.name, ""): _kind_of(view) for view in views}
    return _with_errors(replace(reason, kinds=kinds), views, short)


def _with_errors(reason: Reason, views: Sequence[_View], short: Mapping[str, str]) -> Explanation:
    """Add where the autoencoder with the largest share is wrong, and what it rebuilds."""
    from detect.reconstruction import worst_rebuilt

    rebuilding = [view for view in views if view.reconstruction is not None]
    if not rebuilding:
        return Explanation(reason)
    view = max(rebuilding, key=lambda view: view.share)
    bands, reconstruction = view.bands, view.reconstruction
    assert reconstruction is not None
    worst = worst_rebuilt(reconstruction, bands.low_hz, bands.high_hz, bands.frame_seconds)
    by = short.get(view.name, "")
    return Explanation(
        replace(reason, rebuilt=worst, rebuilt_by=by or view.name.rpartition("/")[2]),
        ErrorMap(by, reconstruction, bands),
    )


def _without_detectors(names: Iterable[str]) -> dict[str, str]:
    """Shorten the members' names to encoder/pooling where that tells them apart."""
    short = {name: name.rpartition("/")[0] for name in names}
    return short if len(set(short.values())) == len(short) else {name: name for name in short}


def _views(
    members: Sequence[LoadedMember], vectors: Rows, shares: Mapping[str, float]
) -> list[_View]:
    """Divide the score of each member among its numbers, where their bands are known.

    An autoencoder's squared errors are its score; other scores of vectors are divided by
    `detect.contributions`.
    """
    from detect.contributions import contributions
    from detect.detector import anomaly_scores
    from detect.reconstruction import reconstruct
    from embed.feature_bands import feature_bands

    views = []
    for member in members:
        rebuild = member.member.configuration.get("rebuild", {})
        row = vectors.get(member.number)
        if row is None or not rebuild:
            continue
        bands = feature_bands(
            rebuild["encoder"],
            rebuild["pooling"],
            rebuild["encoder_options"],
            rebuild["pooling_options"],
        )
        if bands is None or row.shape[-1] != len(bands.low_hz):
            continue
        reconstruction = reconstruct(member.detector, row)
        scaler = getattr(member.detector, "scaler", None)
        if reconstruction is not None:
            values = reconstruction.excess
        elif row.ndim == 1 and scaler is not None:
            score = partial(anomaly_scores, member.detector)
            values = contributions(score, row, scaler.mean_)
        else:
            continue
        name = member.member.name
        views.append(_View(name, shares.get(name, 1.0), bands, values, reconstruction))
    return views


def _kind_of(view: _View) -> str:
    """Say which of a member's numbers counts most, where none has a frequency; "" elsewhere."""
    import numpy as np

    if np.isfinite(view.bands.low_hz).any():
        return ""
    return view.bands.kind[int(np.argmax(view.values))]


def _weights(profile: MachineProfile, views: Sequence[_View]) -> np.ndarray | None:
    """Spread the members' scores over the bands; None where no member's numbers are bands."""
    from detect.contributions import MemberContributions, band_weights

    parts = [
        MemberContributions(view.share, view.values, view.bands.low_hz, view.bands.high_hz)
        for view in views
    ]
    weights = band_weights(parts, profile.sounds.low_hz, profile.sounds.high_hz)
    return weights if weights.any() else None


def _nearest(profile: MachineProfile, vectors: Rows) -> str | None:
    """Name the training clip nearest to this one by the first member's vectors."""
    import numpy as np

    from detect.contributions import nearest_clip

    row = vectors.get(0)
    if profile.vectors is None or row is None:
        return None
    known = profile.vectors.astype(np.float64)
    deviation = known.std(axis=0) + 1e-9
    number, _ = nearest_clip(row / deviation, known / deviation)
    return str(profile.keys[number])
