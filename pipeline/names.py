"""What a user may type: NAME[:MODEL] or package.module:Class, and NAME.option=value."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from ground.registry import Row, is_own_class, split_name
from ground.text import nearest_hint
from pipeline.exits import UsageError

KINDS = ("encoder", "pooling", "detector")
FUSION = "auto"
"""What `--set` calls the fusion, whatever its members are."""


@dataclass(frozen=True)
class Choice:
    """An entry of a registry by name, with the options that the user gave."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()
    label: str = field(default="", compare=False)
    """What a person reads in place of the name, where several choices share it."""

    def __str__(self) -> str:
        return self.label or self.name


def names_of(text: str, registry: Mapping[str, Any], kind: str) -> list[str]:
    """Split comma-separated names; UsageError for an unknown one, with the nearest known name.

    `package.module:Class` is a name too, but not for poolings and systems.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        check_name(name, registry, kind)
    return list(dict.fromkeys(names))


def check_name(name: str, registry: Mapping[str, Any], kind: str) -> None:
    """Raise UsageError for a name that is neither registered nor a class from outside."""
    family, model = split_name(name)
    is_known = family in registry and (not model or (kind == "encoder" and family == "hf"))
    if not is_known and not (kind in ("encoder", "detector") and is_own_class(name, registry)):
        raise UsageError(
            f"unknown {kind} {name!r}: {nearest_hint(name, registry)} (--list shows all)"
        )


def own_classes(text: str, registry: Mapping[str, Row]) -> list[str]:
    """List the names in a comma-separated text that are classes from outside."""
    return [name for name in text.split(",") if is_own_class(name.strip(), registry)]


def set_options(
    assignments: Sequence[str], kind: str, name: str, texts: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Collect the --set options of one registry entry; options in `texts` stay text.

    `assignments` are NAME.option=value, NAME an entry of a registry or a kind of entry. Raises
    UsageError for a name that is in no registry.
    """
    options = {}
    for text in assignments:
        target, option, value = assignment("--set", text)
        check_target(text, target)
        if target in (kind, name, split_name(name)[0]):
            options[option] = value if option in texts else value_of(value)
    return options


def check_target(text: str, target: str) -> None:
    """Raise UsageError unless `target` names what has options."""
    known = (*KINDS, FUSION, *ENCODERS, *POOLINGS, *DETECTORS)
    if target not in known and ":" not in target:
        hint = nearest_hint(target, known)
        hint = f"; {hint}" if hint.startswith("did") else ""
        raise UsageError(f"--set {text}: {target!r} is no name of --list{hint}")


def assignment(flag: str, text: str) -> tuple[str, str, str]:
    """Split NAME.option=value; NAME may be package.module:Class."""
    left, equals, value = text.partition("=")
    target, dot, option = left.rpartition(".")
    if not (target and dot and option and equals):
        raise UsageError(f"{flag} {text}: expected NAME.option=value, such as knn.k=3")
    return target, option, value


def value_of(text: str) -> Any:
    """Read a number, a boolean, a list or else a plain word."""
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        return tuple(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
