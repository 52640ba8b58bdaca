"""The vectors of a run, computed by another tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embed import make_pooling
from pipeline.exits import UsageError
from pipeline.names import Choice
from pipeline.parts import pooling_of
from pipeline.screen import messages
from pipeline.settings import Settings
from pipeline.sources import Pair, Source, find_dataset

if TYPE_CHECKING:
    import numpy as np

    from cache.foreign import Report
    from cache.store import EmbeddingStore
    from detect.fitting import Read
    from embed.pooling import Pooling
    from embed.recordings.dataset import DataSet


@dataclass(frozen=True)
class Import:
    """Vectors of another tool, kept under that tool's own names."""

    name: str
    store: EmbeddingStore
    report: Report

    @property
    def gives(self) -> str:
        return "sequences" if self.report.frames else "vectors"

    def offers(self, pooling: str) -> bool:
        """Tell whether these vectors or frames can be had with a pooling of that name."""
        return not self._why_not_source(make_pooling(pooling))

    def why_not(self, pooling: Pooling) -> str:
        """Say why these vectors or frames cannot be had with `pooling`, or "" where they can."""
        return self._why_not_source(pooling) or pooling.why_not(self.report.row_shape[-1])

    def _why_not_source(self, pooling: Pooling) -> str:
        if self.gives == "vectors":
            alike = pooling.name == "clip"
            return "" if alike else f"{self.name} holds one vector per clip; --pooling needs frames"
        alike = pooling.source == "frames"
        return "" if alike else f"{self.name} holds frames; there is no {pooling.source!r} output"

    def read(
        self, names: Mapping[str, str], pooling: Pooling | None, keys: Sequence[str]
    ) -> np.ndarray:
        """Read the rows of clips, `(n_clips, ...)`, frames pooled over each clip's own length."""
        import numpy as np

        rows = self.store.read([names[key] for key in keys])
        if pooling is None or pooling.name == "frames":
            return rows
        lengths = np.sum(~np.isnan(rows[:, :, 0]), axis=1)
        pooled: dict[int, np.ndarray] = {}
        for length in np.unique(lengths):
            of_length = np.flatnonzero(lengths == length)
            vectors = pooling(rows[of_length, :length])
            pooled.update(zip(of_length.tolist(), vectors, strict=True))
        return np.stack([pooled[i] for i in range(len(keys))])


def import_embeddings(settings: Settings) -> Import:
    """Keep the embeddings of another tool in the cache, and say what was recognised."""
    from cache.foreign import import_to_store
    from cache.foreign_layouts import Choices

    path = Path(settings.embeddings)
    if not path.exists():
        raise UsageError(f"--embeddings {path}: no such file or folder")
    try:
        choices = Choices(
            embeddings_key=settings.embeddings_key,
            names_key=settings.names_key,
            axes=settings.axes,
            dequantise=settings.dequantise,
            match=settings.match,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    store, report = import_to_store(path, settings.cache_dir, choices)
    if not settings.quiet:
        messages.print(f"{path.name}: {report.recognised}; {report.rows} rows", end="")
        messages.print(f", left out {report.left_out}" if report.left_out else "")
    return Import(path.stem, store, report)


def imported_clips(settings: Settings, imported: Import) -> tuple[DataSet, dict[str, str]]:
    """Find the clips that imported names are of, from --data or from the names themselves.

    Returns the data set, its clips without a row among the skipped, and the name of each clip.
    """
    from cache.matching import match
    from embed.recordings.clips import clips_of_names
    from embed.recordings.dataset import Skipped

    names = imported.store.keys()
    if not settings.data:
        try:
            dataset = clips_of_names(names, Path(settings.embeddings).absolute())
        except ValueError as error:
            raise UsageError(f"{error}; give --data, the recordings they are of") from None
        return dataset, {clip.key: clip.key for clip in dataset.clips}
    dataset = find_dataset(settings)
    found = match(names, [clip.key for clip in dataset.clips], settings.match)
    if not settings.quiet:
        messages.print(found.summary)
    if not found.names:
        raise ValueError(
            f"no name in {settings.embeddings} is a clip of {dataset.root}: "
            f"{names[0]!r} against {dataset.clips[0].key!r}; see --match"
        )
    unmatched = [Skipped(key, "no row of that name") for key in found.unmatched_keys]
    return replace(dataset, skipped=(*dataset.skipped, *unmatched)), dict(found.names)


def imported_sources(
    imported: Import, names: Mapping[str, str], poolings: Iterable[Choice]
) -> dict[Pair, Source]:
    """Offer imported vectors as they are, or imported frames with every pooling of a run."""
    sources = {}
    for choice in dict.fromkeys(poolings):
        pooling = pooling_of(choice) if imported.report.frames else None

        def narrowed(keys: Sequence[str], pooling: Pooling | None = pooling) -> Read:
            return partial(imported.read, {key: names[key] for key in keys}, pooling)

        sources[Choice(imported.name), choice] = Source(
            encoder=imported.name,
            pooling=choice.name,
            path=imported.store.path,
            read=partial(imported.read, names, pooling),
            keys=frozenset(names),
            narrowed=narrowed,
        )
    return sources
