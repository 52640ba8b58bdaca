"""Messages in one line, that no name from outside can disturb."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from difflib import get_close_matches
from math import isfinite
from typing import Any

LONGEST_LINE = 2000
"""Characters of a message; what files from outside hold can be of any length."""
DISK_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, or write to another disk",
    errno.EDQUOT: "your disk quota is used up; free some space, or write to another disk",
    errno.EROFS: "the disk is read-only; write to another one",
}


def one_line(error: BaseException) -> str:
    """Say what an exception says, in one line; its type where it says nothing.

    A full or read-only disk is said with the path and what to do next.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if isinstance(error, OSError) and error.strerror == os.strerror(error.errno or 0):
        advice = DISK_ADVICE.get(error.errno or 0, "")
        text = f"{error.filename or 'a file'}: {advice}" if advice else text
    line = " ".join(visible(text).split()) or type(error).__name__
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."


def visible(text: str) -> str:
    r"""Replace control characters but newline and tab, ESC among them, by `\x1b` and the like.

    Direction overrides and other characters that no screen shows are replaced too.
    """
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Say which known name `name` may have meant, or all of them: `did you mean 'knn'?`."""
    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"one of {', '.join(names) or 'none'}"


def json_text(value: Any) -> str:
    """Write JSON on one line; numbers that JSON does not have, NaN and infinity, become null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
