"""The whole job: find clips, embed them, fit and score, compare with the labels, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.clips import clip_table
from pipeline.concluding import conclude
from pipeline.exits import UsageError
from pipeline.grid import grid_folder, read_outcome, write_leaderboard
from pipeline.imported import Import, import_embeddings, imported_clips, imported_sources
from pipeline.journal import Journal
from pipeline.judging import Unusable, judge
from pipeline.outcome import Outcome
from pipeline.parts import weights_for_detectors
from pipeline.plan import Combination, combinations_of, unused_flags
from pipeline.run_folder import RunFolder
from pipeline.run_page import formats_of
from pipeline.screen import relay_rooms, say
from pipeline.settings import Settings, given_from_python, settings_of
from pipeline.sources import Pair, Source, embed_all, find_dataset
from pipeline.spool import Spool

if TYPE_CHECKING:
    from embed.recordings.dataset import DataSet


@dataclass(frozen=True)
class Job:
    """What a job found: an outcome per combination, and where everything is written."""

    data: str
    year: int
    outcomes: Sequence[Outcome]
    refused: Sequence[Outcome]
    """Combinations whose parts do not go together."""
    entries: Sequence[Mapping[str, Any]]
    """The leaderboard, one entry per combination."""
    folder: Path
    left_out: Sequence[tuple[str, str]] = ()
    """Clips that could not be used, each with the reason."""
    without_training: Sequence[str] = ()
    """Machines that nothing could be fitted to, each with the reason."""

    @property
    def failed(self) -> bool:
        """Whether a machine or a combination lacks its results."""
        return bool(self.without_training) or any(outcome.reason for outcome in self.outcomes)


def run(config: str | Path | None = None, **flags: Any) -> Job:
    """Run the whole job; `flags` are those of the command line, by name.

    Several names may be lists: `run(data="demo", encoder=["logmel", "mfcc"], quiet=True)`.
    Raises ValueError and OSError with one-line messages, as the command line prints them.
    """
    given = given_from_python(**flags)
    return run_job(settings_of(Settings, given, Path(config) if config else None))


def run_job(settings: Settings) -> Job:
    """Embed, fit, score, report; UsageError for a shard, which has not all clips of a machine."""
    if settings.shard:
        raise UsageError("a shard can be embedded, not judged: `embed` takes --shard")
    relay_rooms(quiet=settings.quiet)
    formats_of(settings.figures)
    imported = import_embeddings(settings) if settings.embeddings else None
    combinations, refused = _plan(settings, imported)
    members = [member for combination in combinations for member in combination.members]

    dataset, names = clips_of(settings, imported)
    table, without_training = clip_table(dataset)
    weights, without_weights = weights_for_detectors(settings, [m.detector for m in members])

    is_grid = len(combinations) + len(refused) > 1
    if is_grid:
        origin = imported.store.header.source if imported else ""
        folder = grid_folder(settings, dataset, members, weights, origin)
    else:
        folder = RunFolder.new(combinations[0].name, settings)
    with folder, Spool(settings.out) as spool:
        for skipped in dataset.skipped:
            folder.leave_out(skipped.key, skipped.reason)
        pairs = [member.source for member in members if member.detector.name not in without_weights]
        sources, without_vectors = vectors_of(settings, dataset, imported, names, pairs, folder)
        unusable: Unusable = {**without_weights, **without_vectors}

        outcomes = _finished(combinations, folder) if folder.is_resumed else {}
        wanted = [c for c in combinations if c.name not in outcomes]
        for combination, fits in judge(
            settings, table, sources, wanted, weights, unusable, folder, spool=spool
        ):
            own = folder.inside(combination.name, combination.settings) if is_grid else folder
            outcomes[combination.name] = conclude(
                combination, fits, unusable, dataset, table, own, folder.left_out
            )

        ordered = [outcomes[combination.name] for combination in combinations]
        if is_grid:
            write_leaderboard(folder.make(), dataset.name, [*ordered, *refused])
        return Job(
            data=dataset.name,
            year=dataset.year,
            outcomes=ordered,
            refused=refused,
            entries=[outcome.entry for outcome in [*ordered, *refused]],
            folder=folder.path,
            left_out=folder.left_out,
            without_training=without_training,
        )


def _plan(settings: Settings, imported: Import | None) -> tuple[list[Combination], list[Outcome]]:
    """List what is to be run, and what cannot be; say the latter, and which flags are unused."""
    combinations, reasons = combinations_of(settings, imported)
    refused = [Outcome(combination, reason=reason) for combination, reason in reasons]
    for outcome in refused:
        say("skipped", f"{outcome.combination.name}: {outcome.reason}", "yellow")
    if not settings.quiet:
        for reason in unused_flags(settings, [*combinations, *(r.combination for r in refused)]):
            say("unused", reason, "yellow")
    return combinations, refused


def clips_of(settings: Settings, imported: Import | None) -> tuple[DataSet, Mapping[str, str]]:
    """Find the clips, and the name of each in the embeddings of another tool."""
    return imported_clips(settings, imported) if imported else (find_dataset(settings), {})


def vectors_of(
    settings: Settings,
    dataset: DataSet,
    imported: Import | None,
    names: Mapping[str, str],
    pairs: Sequence[Pair],
    journal: Journal,
) -> tuple[dict[Pair, Source], dict[Pair, str]]:
    """Return the vectors of every encoder and pooling, and why a pair has none."""
    theirs = [pair for pair in pairs if imported and pair[0].name == imported.name]
    ours = [pair for pair in pairs if pair not in theirs]
    sources: dict[Pair, Source] = {}
    unusable: dict[Pair, str] = {}
    if ours:
        sources, unusable = embed_all(settings, dataset, ours, journal)
    if imported and theirs:
        sources |= imported_sources(imported, names, [pooling for _, pooling in theirs])
    return sources, unusable


def _finished(combinations: Sequence[Combination], folder: RunFolder) -> dict[str, Outcome]:
    """Read the outcomes that an interrupted grid had finished, by name."""
    read = {c.name: read_outcome(c, folder.path / c.name) for c in combinations}
    return {name: outcome for name, outcome in read.items() if outcome is not None}
