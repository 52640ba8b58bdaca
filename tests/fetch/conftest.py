"""What tests of several kinds of downloads share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fetch import progress


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what a program's own display is given: name and size, then the counts of bytes."""
    given: list[object] = []

    @contextmanager
    def display(name: str, size: int) -> Iterator[progress.Advance]:
        given.append((name, size))
        yield given.append

    monkeypatch.setattr(progress, "display", display)
    return given
