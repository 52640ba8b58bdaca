"""What a finished run or grid was made from, found again: its clips and their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clips import clip_table, only, trained
from pipeline.finished_run import FinishedRun
from pipeline.imported import import_embeddings
from pipeline.job import clips_of, vectors_of
from pipeline.journal import Journal
from pipeline.judging import MemberFits
from pipeline.model import Model, read_model
from pipeline.plan import Combination, combinations_of
from pipeline.settings import Settings, refuse_classes, settings_of
from pipeline.sources import Pair, Source

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet


@dataclass(frozen=True)
class RunSources:
    """The clips and vectors of a run, or of all combinations of a grid."""

    settings: Settings
    combinations: Mapping[str, Combination]
    """By name, which is that of its folder in a grid."""
    dataset: DataSet
    table: ClipTable
    vectors: Mapping[Pair, Source]
    unusable: Mapping[Pair, str]
    """Why vectors cannot be had."""

    def combination_of(self, run: FinishedRun) -> Combination:
        """Return what a run folder is of; ValueError where its grid has no such combination."""
        if len(self.combinations) == 1:
            return next(iter(self.combinations.values()))
        if run.folder.name not in self.combinations:
            raise ValueError(f"{run.folder.name} is no combination of its grid's config.toml")
        return self.combinations[run.folder.name]

    def fits_of(self, combination: Combination, model: Model) -> list[MemberFits]:
        """Return the members of a run with their vectors, without scores.

        ValueError where vectors cannot be had or are others than those of the `model`.
        """
        from embed.fingerprint import fingerprint

        fits = []
        for member in combination.members:
            if member.source not in self.vectors:
                reason = self.unusable.get(member.source, "nothing computes them")
                raise ValueError(f"there are no vectors of {member.name}: {reason}")
            source = self.vectors[member.source]
            table, without_training = trained(only(self.table, source.keys))
            fits.append(MemberFits(member, source, table, (), without_training))
        found = [fit.source.configuration for fit in fits]
        fingerprints = [fingerprint(each) if each else "" for each in found]
        if fingerprints != [member.fingerprint for member in model.members]:
            raise ValueError(
                f"the vectors that {combination.name} has now are not those of its model, since "
                "an encoder, its weights or a version differs"
            )
        return fits

    def table_of(self, fits: Sequence[MemberFits]) -> ClipTable:
        """Return the clips that some member has vectors of."""
        return only(self.table, frozenset(key for fit in fits for key in fit.table.key))

    def lacking(self, run: FinishedRun) -> str:
        """Say which test clips of a run are not there, or ""; ValueError where none is there."""
        there = set(self.table.key)
        absent = [clip.key for clip in run.clips if clip.key not in there]
        if not absent:
            return ""
        said = (
            f"{self.dataset.root} lacks {len(absent)} of the {len(run.clips)} test clips, first "
            f"{absent[0]!r}"
        )
        if len(absent) == len(run.clips):
            raise ValueError(f"{said}; name their folder with --data")
        return said


def find_sources(folder: Path, data_name: str, given: Mapping[str, Any]) -> RunSources:
    """Find the clips and vectors of a run folder or a grid by its config.toml.

    `given` are settings that win over those of the run. Vectors that the cache lacks are computed
    again; nothing is fetched. `data_name` is what the run called its data set. Raises OSError and
    ValueError, and UsageError for settings that this version cannot run.
    """
    settings = settings_of(Settings, {**given, "offline": True}, folder)
    imported = import_embeddings(settings) if settings.embeddings else None
    combinations, _ = combinations_of(settings, imported)
    dataset, names = clips_of(settings, imported)
    if "data" in given:  # a folder may have another name now, and the cache has the first one
        dataset = replace(dataset, name=data_name)
    table, _ = clip_table(dataset)
    members = [member for combination in combinations for member in combination.members]
    pairs = [member.source for member in members]
    vectors, unusable = vectors_of(settings, dataset, imported, names, pairs, Journal())
    return RunSources(
        settings, {c.name: c for c in combinations}, dataset, table, vectors, unusable
    )


def own_model(run: FinishedRun, settings: Settings) -> Model:
    """Read the model of a run; UsageError where it names a class that is not trusted."""
    model = read_model(run.folder)
    if not settings.trust_classes:
        detectors = ",".join(member.detector for member in model.members)
        refuse_classes({"detector": detectors}, str(model.path))
    return model
