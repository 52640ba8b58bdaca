"""Passwords and tokens: from the environment or a file, and shown nowhere."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.exits import UsageError

PREFIX = "WATCH_"
"""Names of our variables; no command that is started inherits one."""


@dataclass(frozen=True)
class Credential:
    """A text that no log and no error may show; its representation hides it."""

    value: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.value)


NO_CREDENTIAL = Credential()


def credential(name: str) -> Credential:
    """Read the variable `name`, or the file that the variable `name`_FILE names; "" for neither.

    UsageError where both are set, where the file cannot be read, and for an empty or unprintable
    text. The message never holds the text.
    """
    given, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if given is not None and file is not None:
        raise UsageError(f"both {name} and {name}_FILE are set; unset one of them")
    if given is None and file is None:
        return NO_CREDENTIAL
    origin, text = name, given or ""
    if file is not None:
        origin = f"{name}_FILE={file}"
        try:
            text = Path(file).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"{origin} cannot be read: {reason}") from None
    if not text or not text.isprintable():
        raise UsageError(f"{origin} is empty or has characters that cannot be printed")
    return Credential(text)


def environment_without_credentials() -> dict[str, str]:
    """Return the environment for a command that is started: without our own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
