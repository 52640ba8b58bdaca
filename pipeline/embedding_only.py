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
from pipeline.shards import only_shard, parse_shard
from pipeline.sources import Pair, Source, embed_all, find_dataset


@dataclass(frozen=True)
class Embedded:
    """The vectors that are in the cache now."""

    sources: Sequence[Source]
    left_out: Sequence[tuple[str, str]]
    failed: bool
    """Whether an encoder could not be used."""


def embed_only(settings: EmbedSettings | Settings) -> Embedded:
    """Embed the clips of --data, or those of --shard, and stop there.

    The settings of `embed` name encoders and poolings: every pair that goes together is embedded,
    another one is skipped with its reason, and UsageError where none does. The settings of the
    whole job, or none named, mean what that job reads.
    """
    relay_rooms(quiet=settings.quiet)
    if settings.shard:
        parse_shard(settings.shard)
    if isinstance(settings, Settings) and settings.embeddings:
        raise UsageError("--shard embeds clips, and the vectors of --embeddings are there already")
    if isinstance(settings, EmbedSettings) and (settings.encoder or settings.pooling):
        pairs = _pairs(settings)
    else:
        job = settings if isinstance(settings, Settings) else Settings(**vars(settings))
        combinations, _ = combinations_of(job)
        pairs = [member.source for each in combinations for member in each.members]
    with RunFolder.new(f"embed-{file_name(settings.encoder or 'logmel')}", settings) as folder:
        dataset = find_dataset(settings)
        if settings.shard:
            dataset = only_shard(dataset, settings.shard)
        sources, unusable = embed_all(settings, dataset, pairs, folder)
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
