"""What decides a vector, as one hash; and what it takes to build its encoder again.

All options of an encoder, a preprocessing or a pooling are fields, and the fingerprint hashes them
all, so that no option can be forgotten. The metadata of a field says where that is not so:
`RUNTIME`, `ENVIRONMENT` or `ADDED_LATER`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from embed import ENCODERS, POOLINGS, make_encoder, make_pooling
from ground.registry import Row, find_row, is_own_class

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.pooling import Pooling
    from embed.recordings.preprocessing import Preprocessing

RUNTIME: Mapping[str, Any] = {"decides_vectors": False}
"""Of a field that says where weights come from: their hash is in the fingerprint instead."""
ENVIRONMENT: Mapping[str, Any] = {"decides_vectors": False, "is_stored": False}
"""Of a field that is the machine's and not the encoder's, such as the device."""
ADDED_LATER: Mapping[str, Any] = {"hashed_at_default": False}
"""Of a field that came after the first release: its default gives the vectors of before."""

RESAMPLER = "soxr_hq"
FIRST_VERSION = 1

REBUILD = "rebuild"
"""Key of a configuration that holds how to build it again; it is not hashed."""


def configuration(
    encoder: Encoder, preprocessing: Preprocessing, pooling: Pooling
) -> dict[str, Any]:
    """List what decides a vector, and how to build its parts again, as JSON-able values."""
    facts = {
        "encoder": type(encoder).__name__,
        "version": encoder.version,
        "options": _decisive(encoder),
        "weights_sha256": encoder.weights_sha256,
        "resampler": RESAMPLER,
        "preprocessing": _decisive(preprocessing),
        "pooling": pooling.name,
        "pooling_options": _decisive(pooling),
    }
    for key, part in (("preprocessing_version", preprocessing), ("pooling_version", pooling)):
        if part.version != FIRST_VERSION:  # the first was not hashed, and its caches stay valid
            facts[key] = part.version
    facts[REBUILD] = {
        "encoder": _registered(encoder, ENCODERS),
        "encoder_options": _stored(encoder),
        "preprocessing": _stored(preprocessing),
        "pooling": _registered(pooling, POOLINGS),
        "pooling_options": _stored(pooling),
    }
    return facts


def fingerprint(configuration: Mapping[str, Any]) -> str:
    """Hash what decides a vector in a configuration; embeddings are cached under it."""
    facts = {key: value for key, value in configuration.items() if key != REBUILD}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def encoder_from(
    configuration: Mapping[str, Any],
    *,
    device: str = "cpu",
    offline: bool = False,
    trust_classes: bool = False,
) -> tuple[Encoder, Preprocessing, Pooling]:
    """Build what a configuration was made of; vectors from it equal those of then.

    Raises ValueError where that cannot be: for a configuration without the means, other weights
    or another version than then, and for a class from outside the registries, which is imported
    only if `trust_classes`, since that runs its code.
    """
    from embed.recordings.preprocessing import Preprocessing

    plan = configuration.get(REBUILD)
    if not isinstance(plan, Mapping):
        raise ValueError(
            "these vectors were stored without what it takes to build their encoder again; "
            "embed the clips once more"
        )
    for kind, registry in (("encoder", ENCODERS), ("pooling", POOLINGS)):
        if is_own_class(plan[kind], registry) and not trust_classes:
            raise ValueError(
                f"{kind} {plan[kind]} is a class from outside, and importing it runs its code; "
                "--trust-classes allows it"
            )
    known = {f.name for f in fields(find_row(plan["encoder"], ENCODERS, "encoder").resolve())}
    environment = {"device": device, "offline": offline}
    options = _tuples(plan["encoder_options"]) | {
        k: environment[k] for k in environment.keys() & known
    }
    encoder = make_encoder(plan["encoder"], **options)
    preprocessing = Preprocessing(**_tuples(plan["preprocessing"]))
    pooling = make_pooling(plan["pooling"], **_tuples(plan["pooling_options"]))
    _check_same(configuration, encoder, preprocessing, pooling)
    return encoder, preprocessing, pooling


def _check_same(
    stored: Mapping[str, Any], encoder: Encoder, preprocessing: Preprocessing, pooling: Pooling
) -> None:
    """Raise ValueError where the parts would give other vectors than the stored ones."""
    built = json.loads(json.dumps(configuration(encoder, preprocessing, pooling)))
    if fingerprint(built) == fingerprint(stored):
        return
    different = {
        key: (stored.get(key), built.get(key))
        for key in (stored.keys() | built.keys()) - {REBUILD}
        if stored.get(key) != built.get(key)
    }
    texts = (f"{key} was {then!r} and is {now!r}" for key, (then, now) in sorted(different.items()))
    raise ValueError(f"the encoder is not the one of the stored vectors: {'; '.join(texts)}")


def _decisive(thing: Any) -> dict[str, Any]:
    """List the options that decide vectors; those added later only where they were set."""
    return {
        f.name: getattr(thing, f.name)
        for f in fields(thing)
        if f.metadata.get("decides_vectors", True)
        and (f.metadata.get("hashed_at_default", True) or getattr(thing, f.name) != f.default)
    }


def _stored(thing: Any) -> dict[str, Any]:
    """List the options that build a thing again on any machine."""
    return {
        f.name: getattr(thing, f.name) for f in fields(thing) if f.metadata.get("is_stored", True)
    }


def _registered(thing: Any, registry: Mapping[str, Row]) -> str:
    """Return the name of a thing's class in the registry, or else `package.module:Class`."""
    target = f"{type(thing).__module__}:{type(thing).__qualname__}"
    return next((name for name, row in registry.items() if row.target == target), target)


def _tuples(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the lists of JSON into the tuples that options are."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
