"""The vectors of a run, computed by another tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embed import POOLINGS
from pipeline.exits import UsageError
from pipeline.names import slug
from pipeline.parts import pooling_of
from pipeline.screen import messages
from pipeline.settings import Settings
from pipeline.sources import Source, find_dataset

if TYPE_CHECKING:
    import numpy as np

    from cache.foreign import Report
    from cache.store import EmbeddingStore
    from embed.pooling import Pooling
    from embed.recordings.clips import DataSet


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
        """Say whether these vectors or frames can be had with that pooling."""
        if self.gives == "vectors":
            return pooling == "clip"
        return POOLINGS[pooling].resolve().source == "frames"  # type: ignore[no-any-return]

    def read(
        self, names: Mapping[str, str], pooling: Pooling | None, keys: Sequence[str]
    ) -> np.ndarray:
        """Read the rows of clips, frames pooled over each clip's own length."""
        import numpy as np
        import torch

        rows = self.store.read([names[key] for key in keys])
        if pooling is None or pooling.name == "frames":
            return rows
        lengths = np.sum(~np.isnan(rows[:, :, 0]), axis=1)
        pooled: dict[int, np.ndarray] = {}
        for length in np.unique(lengths):
            of_length = np.flatnonzero(lengths == length)
            vectors = pooling(torch.from_numpy(rows[of_length, :length])).numpy()
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
    return Import(slug(path.stem), store, report)


def imported_clips(settings: Settings, imported: Import) -> tuple[DataSet, dict[str, str]]:
    """Find the clips that imported names are of, from --data or from the names themselves.

    Returns the data set, its clips without a row among the skipped, and the name of each clip.
    """
    from cache.matching import match
    from embed.recordings.clips import Skipped, clips_of_names

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
    settings: Settings,
    imported: Import,
    names: Mapping[str, str],
    poolings: Iterable[str],
) -> dict[tuple[str, str], Source]:
    """Offer imported vectors as they are, or imported frames by every pooling asked for."""
    sources = {}
    for name in poolings:
        pooling = pooling_of(settings, name) if imported.report.frames else None
        read = partial(imported.read, names, pooling)
        keys = frozenset(names)
        sources[imported.name, name] = Source(imported.name, name, imported.store.path, read, keys)
    return sources
