"""The command `embed`: fill the cache for the clips of a data set, and stop there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from embed import ENCODERS, POOLINGS
from ground.file_names import file_name
from pipeline.exits import UsageError
from pipeline.names import Choice, names_of, set_options
from pipeline.parts import (
    check_embedding,
    encoder_choices,
    encoder_class,
    encoder_of,
    pooling_of,
)
from pipeline.plan import combinations_of
from pipeline.run_folder import RunFolder
from pipeline.screen import relay_rooms, say
from pipeline.settings import EmbedSettings, Settings
from pipeline.sources import Pair, Source, embed_all, find_dataset


@dataclass(frozen=True)
class Embedded:
    """The vectors that are in the cache now."""

    sources: Sequence[Source]
    left_out: Sequence[tuple[str, str]]
    failed: bool
    """Whether an encoder could not be used."""


def embed_only(settings: EmbedSettings) -> Embedded:
    """Embed the clips of --data with every encoder and pooling that go together.

    A pair that does not go together is skipped with its reason; UsageError where none does.
    """
    relay_rooms(quiet=settings.quiet)
    if settings.encoder or settings.pooling:
        pairs = _pairs(settings)
    else:  # those of the whole job
        combinations, _ = combinations_of(Settings(**vars(settings)))
        pairs = [member.source for member in combinations[0].members]
    with RunFolder.new(f"embed-{file_name(settings.encoder or 'logmel')}", settings) as folder:
        sources, unusable = embed_all(settings, find_dataset(settings), pairs, folder)
        return Embedded(list(sources.values()), folder.left_out, bool(unusable))


def _pairs(settings: EmbedSettings) -> list[Pair]:
    """List the encoders and poolings that go together; UsageError if none do."""
    check_embedding(settings)
    pairs: list[Pair] = []
    reasons = []
    poolings = names_of(settings.pooling, POOLINGS, "pooling")
    for name in names_of(settings.encoder or "logmel", ENCODERS, "encoder"):
        encoders = encoder_choices(settings.set, name)
        own = [encoder_class(name).default_pooling]
        for encoder, pooling_name in itertools.product(encoders, poolings or own):
            pooling_options = set_options(settings.set, "pooling", pooling_name)
            pooling = Choice(pooling_name, tuple(pooling_options.items()))
            reason = encoder_of(settings, encoder, "cpu").why_not(pooling_of(pooling))
            if reason:
                reasons.append(f"{encoder}-{pooling_name}: {reason}")
            else:
                pairs.append((encoder, pooling))
    if not pairs:
        raise UsageError(reasons[0])
    for reason in reasons:
        say("skipped", reason, "yellow")
    return pairs
