"""What a user may type: NAME[:MODEL], NAME.option=value."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.exits import UsageError


def slug(text: str) -> str:
    """Make a text a file name."""
    return "".join(c if c.isalnum() or c in "-_=." else "+" for c in text)


def names_of(text: str, registry: Mapping[str, Any], kind: str) -> list[str]:
    """Split comma-separated names; an unknown one is a UsageError with the nearest."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names and kind != "pooling":  # no pooling is the encoder's own
        raise UsageError(f"--{kind} {text!r} names none (--list shows all)")
    for name in names:
        family, colon, _ = name.partition(":")
        if family not in registry or (colon and family != "hf"):
            close = get_close_matches(name, registry, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(registry)}"
            raise UsageError(f"unknown {kind} {name!r}: {hint} (--list shows all)")
    return list(dict.fromkeys(names))


def set_options(
    assignments: Sequence[str], kind: str, name: str, texts: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Collect the --set options of one registry entry; options in `texts` stay text.

    `assignments` are NAME.option=value, NAME an entry of a registry or a kind of entry. Raises
    UsageError for a name that is in no registry.
    """
    known = {"encoder", "pooling", "detector", *ENCODERS, *POOLINGS, *DETECTORS}
    options = {}
    for text in assignments:
        target, option, value = assignment("--set", text)
        if target not in known:
            close = get_close_matches(target, known, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"--set {text}: {target!r} is no name of --list{hint}")
        if target in (kind, name.partition(":")[0]):
            options[option] = value if option in texts else value_of(value)
    return options


def assignment(flag: str, text: str) -> tuple[str, str, str]:
    """Split NAME.option=value."""
    target, dot, rest = text.partition(".")
    option, equals, value = rest.partition("=")
    if not (target and dot and option and equals):
        raise UsageError(f"{flag} {text}: expected NAME.option=value, such as knn.k=3")
    return target, option, value


def value_of(text: str) -> Any:
    """Read a number, a boolean, a list or else a plain word."""
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        return tuple(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError):
        return text
