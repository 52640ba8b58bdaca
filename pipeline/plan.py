"""From flags to combinations of encoder, pooling and detector, and why a pair is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from detect import DETECTORS, check_detector, facts_of
from embed import ENCODERS, POOLINGS
from pipeline.exits import UsageError
from pipeline.names import assignment, names_of, set_options, slug, value_of
from pipeline.parts import encoder_class, encoder_of, pooling_of
from pipeline.settings import Settings
from pipeline.systems import SYSTEMS

if TYPE_CHECKING:
    from pipeline.imported import Import

KINDS = ("encoder", "pooling", "detector")


# ---------------------------------------------------------------------------------------------
# From flags to what is to be done
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combination:
    """One way to judge the clips: a row of the leaderboard and a run folder of its own."""

    encoder: str
    pooling: str
    detector: str
    options: tuple[tuple[str, Any], ...] = ()
    seed: int | None = None

    @property
    def names(self) -> frozenset[str]:
        """What --set may call its parts."""
        family = self.encoder.partition(":")[0]
        return frozenset({*KINDS, family, self.pooling, self.detector})

    @property
    def name(self) -> str:
        swept = [f"{option}={value}" for option, value in self.options]
        seed = [] if self.seed is None else [f"seed={self.seed}"]
        return slug("-".join([self.encoder, self.pooling, self.detector, *swept, *seed]))

    def alone(self, settings: Settings) -> Settings:
        """Return the settings that run this combination without its grid."""
        swept = [f"{self.detector}.{name}={value}" for name, value in self.options]
        return replace(
            settings,
            encoder=settings.encoder if settings.embeddings else self.encoder,
            pooling=self.pooling,
            detector=self.detector,
            set=[text for text in settings.set if text.partition(".")[0] in self.names] + swept,
            sweep=[],
            seed=settings.seed if self.seed is None else self.seed,
            seeds=1,
        )


def combinations_of(
    settings: Settings, imported: Import | None = None
) -> tuple[list[Combination], list[tuple[Combination, str]]]:
    """Return what is to be run, and what cannot be, each with its reason."""
    encoders = [imported.name] if imported else names_of(settings.encoder, ENCODERS, "encoder")
    poolings = names_of(settings.pooling, POOLINGS, "pooling")
    preset = SYSTEMS.get(settings.system)
    if imported and preset and poolings == [preset.pooling] and not imported.offers(poolings[0]):
        poolings = []  # of the preset's encoder, which is not the one that made these
    detectors = names_of(settings.detector, DETECTORS, "detector")
    for text in settings.sweep:
        if (target := assignment("--sweep", text)[0]) not in ("detector", *detectors):
            names_of(target, DETECTORS, "detector")
            raise UsageError(f"--sweep {text}: {target} is not in --detector {settings.detector}")
    seeds = [None] if settings.seeds == 1 else range(settings.seed, settings.seed + settings.seeds)
    wanted: list[Combination] = []
    refused: list[tuple[Combination, str]] = []
    for encoder, detector in itertools.product(encoders, detectors):
        for pooling in poolings or [_natural_pooling(encoder, detector, imported)]:
            for options, seed in itertools.product(_swept(settings, detector), seeds):
                combination = Combination(encoder, pooling, detector, options, seed)
                if reason := _refusal(settings, combination, imported):
                    refused.append((combination, reason))
                else:
                    wanted.append(combination)
    if not wanted:
        raise UsageError(refused[0][1])
    return wanted, refused


def _natural_pooling(encoder: str, detector: str, imported: Import | None) -> str:
    """Pick the pooling that a detector takes, or else the encoder's own."""
    takes = facts_of(detector).takes
    if imported is not None and imported.gives == "vectors":
        return "clip"
    if takes == "vectors":
        return "mean" if imported else encoder_class(encoder).default_pooling
    return {"sequences": "frames", "bands": "bands"}[takes]


def _refusal(settings: Settings, made: Combination, imported: Import | None) -> str:
    """Say why its three parts do not go together, or "" where they do."""
    detector = made.detector
    if options := {**set_options(settings.set, "detector", detector), **dict(made.options)}:
        try:
            check_detector(detector, options)
        except ValueError as error:
            raise UsageError(str(error)) from None
    gives = {"frames": "sequences", "bands": "bands"}.get(made.pooling, "vectors")
    takes = facts_of(detector).takes
    if gives != takes:
        return f"--detector {detector} takes {takes}, --pooling {made.pooling} gives {gives}"
    pooling = pooling_of(settings, made.pooling)
    if imported is None:
        return encoder_of(settings, made.encoder, "cpu").refuses(pooling)
    if not imported.offers(pooling.name):
        if imported.gives == "vectors":
            return f"{settings.embeddings} holds one vector per clip; --pooling needs frames"
        return f"{settings.embeddings} holds frames; there is no {pooling.source!r} output"
    if pooling.name == "fluctuation" and imported.report.row_shape[-1] % 64:
        return f"fluctuation needs a width that is a multiple of 64, {settings.embeddings} has not"
    return ""


def unused_flags(settings: Settings, combinations: Sequence[Combination]) -> Iterator[str]:
    """Name the flags that change nothing in this run; those of a preset are not the user's."""
    preset = SYSTEMS.get(settings.system)
    names = frozenset[str]().union(*(made.names for made in combinations))
    for text in settings.set:
        target, _, _ = assignment("--set", text)
        if target not in names and not (preset and text in preset.set):
            yield f"--set {text}: {target} is not in this run"
    if not settings.embeddings:
        return
    how = [] if preset else ["encoder"]
    how += ["normalize", "trim", "denoise", "channel", "short", "precision", "backend"]
    for name in how:
        if getattr(settings, name) != getattr(Settings, name):
            value = getattr(settings, name)
            given = f"--{name}" if value is True else f"--{name} {value}"
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
