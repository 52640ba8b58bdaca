"""Check the explanations on the demo's faults, whose band and time are known.

    python benchmarks/explanations_on_demo.py --seeds 0 1 2

Per machine, the members of `auto` are fitted to its normal training clips. Each anomalous test
clip with a p-value of at most 0.05 is explained. The truth is the fault's own sound: the same clip
from the same random numbers, with and without the fault, subtracted; where its power exceeds that
of the clip without it, a band and a frame belong to the fault. No truth takes part in a reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from detect import make_detector  # noqa: E402
from detect.contributions import (  # noqa: E402
    MemberContributions,
    band_weights,
    contributions,
    member_shares,
    nearest_clip,
)
from detect.detector import anomaly_scores  # noqa: E402
from detect.profile import NormalProfile  # noqa: E402
from detect.reasons import Reason, explain  # noqa: E402
from detect.wrong_machine import better_machine  # noqa: E402
from embed import ENCODERS, make_encoder, make_pooling  # noqa: E402
from embed.feature_bands import FeatureBands, feature_bands, mel_bands  # noqa: E402
from embed.recording_facts import (  # noqa: E402
    FactRanges,
    recording_facts,
    recording_remarks,
)
from embed.recordings import demo  # noqa: E402

Array = NDArray[Any]

MEMBERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("logmel", "fluctuation", {"groups": 16}),
    ("logmel", "quiet", {}),
    ("spectrum", "clip", {}),
    ("wave", "clip", {}),
)
if "spectrum" not in ENCODERS:
    MEMBERS = (("logmel", "fluctuation", {}), ("logmel", "quiet", {}))
DETECTED = 0.05
FOLDS = 10
NEARLY_NO_FAULT = 1e-9
"""A severity that draws the same random numbers as a fault and adds no sound."""
ANOMALOUS_PART = 2  # in the seed of a demo clip

LOGMEL = make_encoder("logmel")


def name_of(encoder: str, pooling: str) -> str:
    return pooling if encoder == "logmel" else encoder


def frames_of(waveform: Array) -> Array:
    """Log-mel frames of one waveform, (n_frames, 128) in dB."""
    return LOGMEL.encode(waveform[None], [make_pooling("frames")])[0][0]


def vectors_of(waveform: Array) -> dict[str, Array]:
    """Encode a waveform for every member, (dim,) each."""
    return {
        name_of(encoder, pooling): make_encoder(encoder)
        .encode(waveform[None], [make_pooling(pooling, **options)])[0][0]
        .astype(np.float64)
        for encoder, pooling, options in MEMBERS
    }


@dataclass
class Member:
    """A fitted member: its detector, its training vectors, and how its scores become z."""

    name: str
    bands: FeatureBands
    clips: Array

    def __post_init__(self) -> None:
        self.detector = make_detector("mahalanobis").fit(self.clips)
        logs = np.empty(len(self.clips))
        order = np.random.RandomState(0).permutation(len(self.clips))
        for fold in range(FOLDS):
            held = order[fold::FOLDS]
            kept = np.delete(self.clips, held, axis=0)
            logs[held] = log_distances(make_detector("mahalanobis").fit(kept), self.clips[held])
        self.mean, self.deviation = logs.mean(), logs.std()
        self.out_of_fold = (logs - self.mean) / self.deviation

    def z(self, x: Array) -> float:
        return float((log_distances(self.detector, x[None])[0] - self.mean) / self.deviation)

    def contributions(self, x: Array) -> Array:
        normal = self.clips.mean(axis=0)
        return contributions(lambda X: anomaly_scores(self.detector, X), x, normal)


def log_distances(detector: Any, X: Array) -> Array:
    return np.log(np.maximum(anomaly_scores(detector, X), 1e-9))


@dataclass
class Machine:
    """What is learned of one machine's normal training clips."""

    machine_id: str
    keys: Sequence[str]
    members: Sequence[Member]
    profile: NormalProfile
    ranges: FactRanges

    def z(self, vectors: dict[str, Array]) -> dict[str, float]:
        return {member.name: member.z(vectors[member.name]) for member in self.members}

    def p_value(self, z: dict[str, float]) -> float:
        fused = np.mean([member.out_of_fold for member in self.members], axis=0)
        score = np.mean(list(z.values()))
        return float((1 + np.sum(fused >= score)) / (1 + len(fused)))

    def reason(self, frames: Array, vectors: dict[str, Array], z: dict[str, float]) -> Reason:
        """Explain a clip from its frames and the members' vectors and z-scores."""
        shares = member_shares(z)
        profile = self.profile
        parts = [
            MemberContributions(
                shares[m.name], m.contributions(vectors[m.name]), m.bands.low_hz, m.bands.high_hz
            )
            for m in self.members
        ]
        first = self.members[0]
        deviation = first.clips.std(axis=0)
        row, _ = nearest_clip(vectors[first.name] / deviation, first.clips / deviation)
        return explain(
            frames,
            profile,
            weights=band_weights(parts, profile.low_hz, profile.high_hz),
            shares=shares,
            nearest=self.keys[row],
        )


def learn(folder: Path, machine_id: str) -> Machine:
    """Fit the members and the profile to a machine's normal training clips."""
    paths = sorted((folder / "slider/train").glob(f"normal_{machine_id}_*.wav"))
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in paths]
    vectors = [vectors_of(waveform) for waveform in waveforms]
    members = []
    for encoder, pooling, options in MEMBERS:
        name = name_of(encoder, pooling)
        bands = feature_bands(encoder, pooling, pooling_options=options)
        members.append(Member(name, bands, np.stack([vector[name] for vector in vectors])))
    edges = mel_bands()
    seconds = LOGMEL.hop_length / LOGMEL.sample_rate
    profile = NormalProfile.of(map(frames_of, waveforms), edges[:-1], edges[1:], seconds)
    ranges = FactRanges.of(recording_facts(each, demo.SAMPLE_RATE) for each in waveforms)
    return Machine(machine_id, [path.name for path in paths], members, profile, ranges)


def truth(path: Path, fault: dict[str, Any], seed: int) -> NDArray[np.bool_]:
    """Tell where the fault's own sound exceeds the rest of the clip, (n_frames, n_bands)."""
    machine_id, number = path.stem[len("anomaly_") : -9], int(path.stem[-8:])
    index = [rail.machine_id for rail in demo.RAILS].index(machine_id)
    draws = (seed, index, ANOMALOUS_PART, number)
    rail = demo.RAILS[index]
    clip = demo.record(rail, fault["fault"], fault["severity"], draws)
    if not np.array_equal(clip, soundfile.read(path, dtype="int16")[0]):
        raise ValueError(f"{path} is not the demo clip of seed {draws}: the generator has changed")
    healthy = demo.record(rail, fault["fault"], NEARLY_NO_FAULT, draws)
    alone = (clip.astype(np.float32) - healthy) / 32768
    return frames_of(alone) > frames_of(healthy.astype(np.float32) / 32768)


@dataclass(frozen=True)
class Finding:
    """One explained clip beside the truth."""

    machine_id: str
    fault: str
    p_value: float
    reason: Reason
    named: tuple[slice, slice]
    """Frames and bands that the reason names."""
    truth: NDArray[np.bool_]
    milliseconds: float

    @property
    def is_narrow(self) -> bool:
        """It names a band and a moment, not all frequencies or the whole clip."""
        return not self.reason.all_bands and self.reason.start_s is not None

    @property
    def band_overlaps(self) -> bool:
        return bool(self.truth[:, self.named[1]].any()) and not self.reason.all_bands

    @property
    def second_overlaps(self) -> bool:
        return bool(self.truth[self.named[0]].any()) and self.reason.start_s is not None

    def both(self, truth: NDArray[np.bool_] | None = None) -> bool:
        """Tell whether the named band at the named moment holds the fault."""
        where = self.truth if truth is None else truth
        return bool(where[self.named].any()) and self.is_narrow

    @property
    def share_right(self) -> float:
        """Share of the named bands that the fault is in, in at least 1 % of the frames."""
        return float((self.truth.mean(axis=0) >= 0.01)[self.named[1]].mean())


def named_region(reason: Reason, profile: NormalProfile, n_frames: int) -> tuple[slice, slice]:
    inside = (profile.centre_hz >= reason.low_hz) & (profile.centre_hz <= reason.high_hz)
    bands = np.flatnonzero(inside)
    if reason.start_s is None or reason.end_s is None:
        frames = slice(0, n_frames)
    else:
        at = np.arange(n_frames) * profile.frame_seconds
        inside = (at >= reason.start_s - 1e-9) & (at <= reason.end_s + 1e-9)
        frames = slice(int(inside.argmax()), int(inside.argmax()) + max(1, int(inside.sum())))
    return frames, slice(int(bands[0]), int(bands[-1]) + 1)


def explain_machine(folder: Path, machine: Machine, seed: int) -> list[Finding]:
    """Explain every anomalous test clip of a machine; also those that are not detected."""
    machine_id = machine.machine_id
    faults = json.loads((folder / demo.MARKER).read_text(encoding="utf-8"))["faults"]
    findings = []
    for path in sorted((folder / "slider/test").glob(f"anomaly_{machine_id}_*.wav")):
        fault = faults[path.relative_to(folder).as_posix()]
        waveform = soundfile.read(path, dtype="float32")[0]
        frames, vectors = frames_of(waveform), vectors_of(waveform)
        z = machine.z(vectors)
        start = time.perf_counter()
        reason = machine.reason(frames, vectors, z)
        spent = 1000 * (time.perf_counter() - start)
        named = named_region(reason, machine.profile, len(frames))
        where = truth(path, fault, seed)
        p_value = machine.p_value(z)
        found = (machine_id, fault["fault"], p_value, reason, named, where, spent)
        findings.append(Finding(*found))
    return findings


def remarks(folder: Path, machines: Sequence[Machine]) -> str:
    """Count the remarks on normal test clips, and the machines named for them."""
    n_clips = n_remarked = n_moved = n_swapped = n_found = 0
    for own in machines:
        for path in sorted((folder / "slider/test").glob(f"normal_{own.machine_id}_*.wav")):
            waveform = soundfile.read(path, dtype="float32")[0]
            facts = recording_facts(waveform, demo.SAMPLE_RATE)
            vectors = vectors_of(waveform)
            z = {one.machine_id: float(np.mean([*one.z(vectors).values()])) for one in machines}
            n_clips += 1
            n_remarked += bool(recording_remarks(own.ranges, facts))
            n_moved += better_machine(z, own.machine_id) is not None
            for other in machines:
                if other is not own:
                    n_swapped += 1
                    n_found += better_machine(z, other.machine_id) == own.machine_id
    return (
        f"normal test clips with a remark on the recording: {n_remarked} of {n_clips}\n"
        f"said to be another machine: {n_moved} of {n_clips} under their own name, "
        f"{n_found} of {n_swapped} under another's"
    )


def by_chance(findings: Sequence[Finding]) -> float:
    """Share of reasons that would be right for a clip of the same machine with another fault."""
    trials = [
        one.both(other.truth)
        for one in findings
        for other in findings
        if one.machine_id == other.machine_id and one.fault != other.fault
    ]
    return float(np.mean(trials)) if trials else float("nan")


def table(findings: Sequence[Finding]) -> str:
    """Lay out the figures of the detected clips as Markdown, a row per fault."""
    lines = [
        "| fault | clips | detected | band | second | both | share of the named bands |",
        "|---|---|---|---|---|---|---|",
    ]
    detected = [one for one in findings if one.p_value <= DETECTED]
    for fault in (*demo.FAULTS, "all"):
        every = [one for one in findings if fault in (one.fault, "all")]
        those = [one for one in detected if fault in (one.fault, "all")]
        if not those:
            continue
        rates = [
            np.mean([one.band_overlaps for one in those]),
            np.mean([one.second_overlaps for one in those]),
            np.mean([one.both() for one in those]),
            np.mean([one.share_right for one in those]),
        ]
        cells = " | ".join(f"{rate:.2f}" for rate in rates)
        lines.append(f"| {fault} | {len(every)} | {len(those)} | {cells} |")
    lines.append("")
    lines.append(f"another fault's band and second by chance: {by_chance(detected):.2f}")
    lines.append(
        f"one explanation: {np.median([one.milliseconds for one in findings]):.1f} ms, "
        "the vectors and the frames given"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the demo data")
    parser.add_argument("--sentences", action="store_true", help="print each reason")
    arguments = parser.parse_args()
    print("members:", ", ".join(name_of(encoder, pooling) for encoder, pooling, _ in MEMBERS))
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "demo"
            demo.write_demo_data(folder, seed)
            machines = [learn(folder, rail.machine_id) for rail in demo.RAILS]
            findings = [
                one for machine in machines for one in explain_machine(folder, machine, seed)
            ]
            about_recordings = remarks(folder, machines)
        if arguments.sentences:
            for one in findings:
                mark = ("right" if one.both() else "wrong") if one.p_value <= DETECTED else "-"
                where = f"{one.machine_id} {one.fault}: {mark}, p {one.p_value:.2f}"
                print(f"{where}, {one.reason.sentence}")
        print(f"\ndemo data of seed {seed}\n\n{table(findings)}\n{about_recordings}", flush=True)


if __name__ == "__main__":
    main()
