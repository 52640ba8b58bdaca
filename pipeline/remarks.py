"""What is remarkable about training clips: some unlike the rest, some copied elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ground.text import one_line, visible
from pipeline.journal import Journal
from pipeline.screen import messages
from pipeline.sources import Source

if TYPE_CHECKING:
    from detect.fitting import ClipTable, FitUnit
    from detect.training_clips import TrainingOutlier


def remark_outliers(
    units: Sequence[FitUnit], source: Source, journal: Journal, *, quiet: bool
) -> list[TrainingOutlier]:
    """Compare training clips with each other, since a fault among them spoils everything.

    Damaged rows and other faults cost the remarks on that machine only.
    """
    from detect.training_clips import training_outliers

    found: list[TrainingOutlier] = []
    for unit in units:
        try:
            found += training_outliers(unit, source.read)
        except Exception as error:  # the fits say what is wrong with the vectors
            journal.log("training clips not compared", unit=unit.name, reason=one_line(error))
    for clip in found:
        vectors = {"encoder": source.encoder, "pooling": source.pooling}
        journal.log("training clip unlike the rest", **asdict(clip), **vectors)
    if found and not quiet:
        clip = found[0]
        messages.print(
            f"{len(found)} training clips are unlike the rest by {source.encoder} "
            f"{source.pooling}, worth a listen: first {visible(repr(clip.key))}, "
            f"{clip.distance:.1f} times the median distance to its nearest others"
        )
    return found


def remark_copies(
    table: ClipTable, sources: Iterable[Source], journal: Journal, *, quiet: bool
) -> None:
    """Say which clips have the same bytes as a training clip of theirs or of another machine."""
    from detect.training_clips import copies

    hashes: dict[str, str] = {}
    try:
        for source in sources:
            hashes |= source.sha256_of_clips()
            if hashes.keys() >= set(table.key):
                break
    except OSError as error:
        journal.log("copied clips not looked for", reason=one_line(error))
    found = copies(hashes, table)
    for clip in found:
        journal.log("copied clip", remark=str(clip), **asdict(clip))
    if found and not quiet:
        counted = "1 clip is a copy" if len(found) == 1 else f"{len(found)} clips are copies"
        messages.print(visible(f"{counted} of training clips; first: {found[0]}"))
