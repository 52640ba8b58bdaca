"""Match the names in another tool's file with the keys of clips."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from cache.format import same_form

MATCHES = ("path", "name", "stem")
AUDIO = re.compile(r"\.(wav|flac|ogg|mp3|aif|aiff|m4a)$", re.IGNORECASE)


@dataclass(frozen=True)
class Matching:
    """Which name is which clip: `names` by key, and what fits nothing."""

    how: str
    names: Mapping[str, str]
    unmatched_names: tuple[str, ...]
    unmatched_keys: tuple[str, ...]

    @property
    def summary(self) -> str:
        return (
            f"matched {len(self.names)} by {self.how}, {len(self.unmatched_names)} names and "
            f"{len(self.unmatched_keys)} clips without a match, 0 ambiguous"
        )


def match(names: Sequence[str], keys: Sequence[str], how: str = "") -> Matching:
    """Find each clip's name: by path, by file name or by stem; "" takes the strictest that fits.

    `path` takes two paths that agree where both have components, extensions of audio aside.
    Names are compared in Unicode's NFC.
    Raises ValueError where a name fits several clips or a clip several names.
    """
    if how:
        return _match(names, keys, how)
    best = Matching("path", {}, tuple(names), tuple(keys))
    refusal: ValueError | None = None
    for rule in MATCHES:
        try:
            found = _match(names, keys, rule)
        except ValueError as error:
            refusal = refusal or error
            continue
        if len(found.names) > len(best.names):
            best = found
    if not best.names and refusal is not None:
        raise refusal
    return best


def _match(names: Sequence[str], keys: Sequence[str], how: str) -> Matching:
    """Match by one rule; ValueError for names that fit several keys, or keys twice."""
    if how not in MATCHES:
        raise ValueError(f"--match {how}: expected {', '.join(MATCHES)}")
    by_last: dict[str, list[str]] = {}
    for key in keys:
        by_last.setdefault(_last(key, how), []).append(key)
    found: dict[str, str] = {}
    unmatched: list[str] = []
    doubtful: list[str] = []
    for name in names:
        fits = by_last.get(_last(name, how), [])
        if how == "path":
            exact = [key for key in fits if same_form(key) == same_form(name)]
            fits = exact or [key for key in fits if _same_tail(name, key)]
        if not fits:
            unmatched.append(name)
        elif len(fits) > 1:
            doubtful.append(f"{name!r} fits {fits[0]!r} and {fits[1]!r}")
        elif fits[0] in found:
            doubtful.append(f"{found[fits[0]]!r} and {name!r} both fit {fits[0]!r}")
        else:
            found[fits[0]] = name
    if doubtful:
        raise ValueError(
            f"{len(doubtful)} of {len(names)} names are ambiguous by {how}: "
            f"{'; '.join(doubtful[:3])}; use --match path, or restrict --machine"
        )
    absent = tuple(key for key in keys if key not in found)
    return Matching(how, found, tuple(unmatched), absent)


def _last(name: str, how: str) -> str:
    last = PurePosixPath(same_form(name)).name
    return last if how == "name" else AUDIO.sub("", last)


def _same_tail(one: str, other: str) -> bool:
    """Tell whether the shorter path is the end of the longer one."""
    a, b = (AUDIO.sub("", same_form(path)).strip("/").split("/") for path in (one, other))
    n = min(len(a), len(b))
    return a[-n:] == b[-n:]
