"""How downloads report their progress: to nobody, unless a program sets `display`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
"""Called now and then with the number of bytes that are here."""
Display = Callable[[str, int], AbstractContextManager[Advance]]
"""Opened for the time of a download, with its name and its size in bytes (0: not known)."""


@contextmanager
def silent(name: str, size: int) -> Iterator[Advance]:
    """Show nothing."""
    yield lambda n_bytes: None


display: Display = silent
"""The display of this process: `fetch.progress.display = my_display` replaces it."""
