"""From settings to combinations of encoder, pooling and detector, and why a pair is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from detect import DETECTORS, check_detector, facts_of, takes_seed
from embed import ENCODERS, POOLINGS, check_encoder, check_pooling
from ground.file_names import file_name
from ground.text import one_line
from pipeline.exits import UsageError
from pipeline.names import (
    FUSION,
    KINDS,
    Choice,
    assignment,
    check_name,
    check_target,
    names_of,
    set_options,
    value_of,
)
from pipeline.parts import (
    check_embedding,
    encoder_choices,
    encoder_class,
    encoder_of,
    layers_in,
    pooling_of,
    text_options,
)
from pipeline.settings import Settings, flag_of
from pipeline.systems import SYSTEMS, System

if TYPE_CHECKING:
    from pipeline.imported import Import

GIVES = {"frames": "sequences", "bands": "bands"}
"""What poolings give besides vectors: the one place that ties them to what a detector takes."""
NO_SYSTEM = System("", fit_per="id")


@dataclass(frozen=True)
class Member:
    """An encoder, a pooling and a detector: what is fitted and gives scores."""

    encoder: Choice
    pooling: Choice
    detector: Choice

    @property
    def name(self) -> str:
        return f"{self.encoder}/{self.pooling}/{self.detector}"

    @property
    def source(self) -> tuple[Choice, Choice]:
        """What its vectors are kept under."""
        return self.encoder, self.pooling


@dataclass(frozen=True)
class Combination:
    """One way to judge the clips: a row of the leaderboard and a run folder of its own."""

    name: str
    members: tuple[Member, ...]
    """One, or several whose scores are fused."""
    fit_per: str
    seed: int | None = None
    """None unless there are several."""
    swept: tuple[tuple[str, Any], ...] = ()
    """The options of --sweep, which are columns of the leaderboard."""
    rule: str = "mean"
    """How the scores of several members become one."""
    settings: Settings = field(default_factory=Settings, compare=False, repr=False)
    """Those that run this combination without its grid."""

    @property
    def columns(self) -> dict[str, str]:
        """Its names in the leaderboard."""
        parts = {
            kind: "+".join(dict.fromkeys(str(getattr(member, kind)) for member in self.members))
            for kind in KINDS
        }
        options = {name: str(value) for name, value in self.swept}
        seed = {} if self.seed is None else {"seed": str(self.seed)}
        system = {"system": self.settings.system} if self.settings.system else {}
        return {**system, **parts, **options, **seed}


Refusals = list[tuple[Combination, str]]


def combinations_of(
    settings: Settings, imported: Import | None = None
) -> tuple[list[Combination], Refusals]:
    """Return what is to be run, and what cannot be, each with its reason.

    Raises UsageError for unknown names and options, and where nothing is left to run.
    """
    _check(settings)
    found = [
        combination
        for name, preset in _systems(settings)
        for combination in _of_system(settings, name, preset, imported)
    ]
    _check_sweeps(settings, found)
    reasons = [_why_not(combination, imported) for combination in found]
    pairs = list(zip(found, reasons, strict=True))
    refused = [(combination, reason) for combination, reason in pairs if reason]
    wanted = _named_apart([combination for combination, reason in pairs if not reason])
    if not wanted:
        raise UsageError(refused[0][1])
    return wanted, refused


def _check(settings: Settings) -> None:
    """Raise UsageError for what no run can have, before anything is read."""
    from detect.thresholds import check_promise

    for text in settings.set:
        _check_assignment(text)
    check_embedding(settings)
    if settings.false_alarms != "none":
        try:
            check_promise(settings.false_alarms, settings.confidence, settings.threshold)
        except ValueError as error:
            raise UsageError(f"--false-alarms, --confidence: {one_line(error)}") from None


def _check_assignment(text: str) -> None:
    """Raise UsageError for an option that a name of --list has not, or that cannot be so.

    It does not matter whether the name is in this run. Options of `encoder`, `pooling`, `detector`
    and of classes from outside are checked where they are used.
    """
    target, option, value = assignment("--set", text)
    check_target(text, target)
    try:
        if target == FUSION:
            _check_fusion(option, value)
        elif target in DETECTORS:
            check_detector(target, {option: value_of(value)})
        elif target in POOLINGS:
            check_pooling(target, {option: value_of(value)})
        elif target.partition(":")[0] in ENCODERS:
            given = value if option in text_options(target) else value_of(value)
            for each in layers_in(given) if option == "layer" else [given]:
                check_encoder(target, {option: each})
    except ValueError as error:
        raise UsageError(f"--set {text}: {error}") from None


def _check_fusion(option: str, value: str) -> None:
    from detect.fusion import RULES

    if option != "rule":
        raise ValueError(f"a fusion has no option {option!r}; it has rule")
    if value not in RULES:
        raise ValueError(f"there is no fusion rule {value!r}; it is {', '.join(RULES)}")


def _check_sweeps(settings: Settings, combinations: Sequence[Combination]) -> None:
    """Raise UsageError for a --sweep that changes no combination; fusions are not swept."""
    detectors = {c.members[0].detector.name for c in combinations if len(c.members) == 1}
    for text in settings.sweep:
        target = assignment("--sweep", text)[0]
        if target != "detector":
            check_name(target, DETECTORS, "detector")
        if not detectors or target not in {"detector", *detectors}:
            raise UsageError(f"--sweep {text}: {target} is not in this run; name a --detector")


def _systems(settings: Settings) -> list[tuple[str, System]]:
    """List the presets to run; one that stands for nothing where parts are named without one."""
    names = names_of(settings.system, SYSTEMS, "system")
    parts = (settings.encoder, settings.pooling, settings.detector, settings.fuse)
    if not names and not any(parts) and not settings.embeddings:
        names = ["auto"]
    return [(name, SYSTEMS[name]) for name in names] or [("", NO_SYSTEM)]


def _of_system(
    settings: Settings, name: str, preset: System, imported: Import | None
) -> Iterator[Combination]:
    """Give the combinations of one preset, with the flags that are given in place of its own."""
    assignments = list(dict.fromkeys([*preset.set, *settings.set]))
    settings = replace(
        settings,
        system=name,
        set=assignments,
        fit_per=settings.fit_per or preset.fit_per or "id",
        scaler=settings.scaler or preset.scaler,
    )
    parts = (settings.encoder, settings.pooling, settings.detector)
    fused = settings.fuse or ("" if any(parts) else ",".join(preset.fuse))
    if fused:
        members = _fused(settings, fused, imported)
        for seed in _seeds(settings, members):
            yield _combination(settings, name or "fusion", members, seed)
        return
    names, poolings, detectors = _grid(settings, preset, imported)
    encoders = [choice for name in names for choice in encoder_choices(settings.set, name)]
    for encoder, detector in itertools.product(encoders, detectors):
        for pooling in poolings or [_natural_pooling(encoder.name, detector, imported)]:
            for swept in _swept(settings, detector):
                members = (_member(settings, encoder, pooling, detector, swept),)
                for seed in _seeds(settings, members):
                    yield _combination(settings, "", members, seed, swept)


def _seeds(settings: Settings, members: Sequence[Member]) -> Sequence[int | None]:
    """List the seeds to run; one run, None, where they would change no score.

    A detector without a seed gives the same scores again. A fusion does not: its z-scores are from
    scores out of fold, and the folds are drawn.
    """
    changes = len(members) > 1 or any(takes_seed(member.detector.name) for member in members)
    if settings.seeds == 1 or not changes:
        return [None]
    return range(settings.seed, settings.seed + settings.seeds)


def _grid(
    settings: Settings, preset: System, imported: Import | None
) -> tuple[list[str], list[str], list[str]]:
    """List the encoders, poolings and detectors; no pooling means what the detector takes."""
    encoders = names_of(settings.encoder or preset.encoder or "logmel", ENCODERS, "encoder")
    poolings = names_of(settings.pooling or preset.pooling, POOLINGS, "pooling")
    detectors = names_of(
        settings.detector or preset.detector or "mahalanobis", DETECTORS, "detector"
    )
    if imported:
        encoders = [imported.name]
        if not settings.pooling and not all(map(imported.offers, poolings)):
            poolings = []  # the preset's pooling is for its own encoder
    return encoders, poolings, detectors


def _fused(settings: Settings, text: str, imported: Import | None) -> tuple[Member, ...]:
    """Read members `encoder/pooling/detector`.

    With --embeddings, log-mel members are made from its frames, and others of a preset are left
    out, since they cannot be made from them.
    """
    members = []
    for written in filter(None, map(str.strip, text.split(","))):
        parts = written.rsplit("/", 2)
        if len(parts) != 3:
            raise UsageError(
                f"--fuse {written}: expected encoder/pooling/detector, such as "
                "logmel/quiet/mahalanobis"
            )
        encoder, pooling, detector = parts
        if imported and not settings.fuse:
            if encoder != "logmel":
                continue
            encoder = imported.name
        if not (imported and encoder == imported.name):
            check_name(encoder, ENCODERS, "encoder")
        check_name(pooling, POOLINGS, "pooling")
        check_name(detector, DETECTORS, "detector")
        members += [
            _member(settings, choice, pooling, detector, ())
            for choice in encoder_choices(settings.set, encoder)
        ]
    return tuple(dict.fromkeys(members))


def _member(
    settings: Settings,
    encoder: Choice,
    pooling: str,
    detector: str,
    swept: tuple[tuple[str, Any], ...],
) -> Member:
    """Give pooling and detector the options that --set and --sweep have for them."""
    of_pooling = set_options(settings.set, "pooling", pooling)
    of_detector = {**set_options(settings.set, "detector", detector), **dict(swept)}
    return Member(
        encoder,
        Choice(pooling, tuple(of_pooling.items())),
        Choice(detector, tuple(of_detector.items())),
    )


def _combination(
    settings: Settings,
    name: str,
    members: tuple[Member, ...],
    seed: int | None,
    swept: tuple[tuple[str, Any], ...] = (),
) -> Combination:
    """Name a combination and note the settings that run it alone."""
    words = [name] if len(members) != 1 else [str(getattr(members[0], kind)) for kind in KINDS]
    words += [f"{option}={value}" for option, value in swept]
    words += [] if seed is None else [f"seed={seed}"]
    targets = {word for m in members for kind in KINDS for word in _targets(m, kind)} | {FUSION}
    options = [text for text in settings.set if assignment("--set", text)[0] in targets]
    options += [f"{members[0].detector}.{option}={value}" for option, value in swept]
    needs_ids = any(facts_of(member.detector.name).needs_ids for member in members)
    parts: dict[str, Any] = {}
    if len(members) == 1:
        parts = {kind: getattr(members[0], kind).name for kind in KINDS}
        if members[0].encoder.label:  # one of several layers
            options.append(f"encoder.layer={dict(members[0].encoder.options)['layer']}")
    if settings.embeddings:
        parts.pop("encoder", None)
    alone = replace(
        settings,
        **parts,
        set=options,
        sweep=[],
        seed=settings.seed if seed is None else seed,
        seeds=1,
    )
    return Combination(
        name=file_name("-".join(words)),
        members=members,
        fit_per="type" if needs_ids else settings.fit_per or "id",
        seed=seed,
        swept=swept,
        rule=set_options(settings.set, FUSION, FUSION).get("rule", "mean"),
        settings=alone,
    )


def _targets(member: Member, kind: str) -> tuple[str, str, str]:
    """List what `--set` may call one part of a member."""
    name = getattr(member, kind).name
    return kind, name, name.partition(":")[0]


def _named_apart(combinations: list[Combination]) -> list[Combination]:
    """Put the system's name before combinations that would share a name."""
    names = [combination.name for combination in combinations]
    return [
        replace(c, name=file_name(f"{c.settings.system}-{c.name}"))
        if names.count(c.name) > 1 and c.settings.system
        else c
        for c in combinations
    ]


def _natural_pooling(encoder: str, detector: str, imported: Import | None) -> str:
    """Pick the pooling that a detector takes, or else the encoder's own."""
    takes = facts_of(detector).takes
    if imported is not None and imported.gives == "vectors":
        return "clip"
    if takes == "vectors":
        return "mean" if imported else encoder_class(encoder).default_pooling
    return next(pooling for pooling, gives in GIVES.items() if gives == takes)


def _why_not(combination: Combination, imported: Import | None) -> str:
    """Say why the parts of a combination do not go together, or "" where they do."""
    if not combination.members:
        return f"--system {combination.settings.system}: none of its members is in --embeddings"
    reasons = (_why_no_member(m, combination.settings, imported) for m in combination.members)
    return next(filter(None, reasons), "")


def _why_no_member(member: Member, settings: Settings, imported: Import | None) -> str:
    detector = member.detector
    try:
        check_detector(detector.name, dict(detector.options))
    except ValueError as error:
        raise UsageError(str(error)) from None
    gives, takes = GIVES.get(member.pooling.name, "vectors"), facts_of(detector.name).takes
    if gives != takes:
        return f"--detector {detector} takes {takes}, --pooling {member.pooling} gives {gives}"
    pooling = pooling_of(member.pooling)
    if imported is not None and member.encoder.name == imported.name:
        return imported.why_not(pooling)
    return encoder_of(settings, member.encoder, "cpu").why_not(pooling)


def unused_flags(settings: Settings, combinations: Sequence[Combination]) -> Iterator[str]:
    """Name the flags that change nothing in this run; those of a preset are not the user's."""
    members = [member for combination in combinations for member in combination.members]
    names = {word for member in members for kind in KINDS for word in _targets(member, kind)}
    if any(len(combination.members) > 1 for combination in combinations):
        names.add(FUSION)
    for text in settings.set:
        target, _, _ = assignment("--set", text)
        if target not in names:
            yield f"--set {text}: {target} is not in this run"
    if settings.seeds > 1 and all(combination.seed is None for combination in combinations):
        yield f"--seeds {settings.seeds}: no detector of this run is random, so it is run once"
    if not settings.embeddings or settings.fuse:
        return
    for setting in fields(Settings):
        value = getattr(settings, setting.name)
        flag = flag_of(setting.name)
        if flag.makes_vectors and value != setting.default:
            given = flag.names.split()[0] + ("" if value is True else f" {value}")
            yield f"{given}: the vectors are those of --embeddings"


def _swept(settings: Settings, detector: str) -> list[tuple[tuple[str, Any], ...]]:
    """List the option values that --sweep gives a detector, each with each."""
    axes = []
    for text in settings.sweep:
        target, option, values = assignment("--sweep", text)
        if target in ("detector", detector):
            outside_brackets = re.split(r",(?![^\[(]*[\])])", values)
            axes.append([(option, value_of(value)) for value in outside_brackets])
    return list(itertools.product(*axes))
