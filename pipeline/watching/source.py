"""What a source is, and what it hands over: finished files, and windows of streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from pipeline.watching.state import FileVersion

if TYPE_CHECKING:
    from embed.recordings.preprocessing import Preprocessing
    from embed.recordings.windows import Window


@dataclass(frozen=True)
class Running:
    """A source works."""

    source: str


@dataclass(frozen=True)
class NewFile:
    """A file that is finished and was not judged."""

    source: str
    version: FileVersion
    path: Path
    machine: tuple[str, str]
    """As its folder names it, which the model may not know; ("", "") where nothing does."""


@dataclass(frozen=True)
class NewWindow:
    """A window of a stream, as recorded."""

    source: str
    machine: str
    """As a person calls it; "" for the only one of the model."""
    by_rate: Mapping[int, Window]
    """The same window at each sample rate that the model's encoders take."""
    at: float
    """When it ended, in seconds since 1970."""


@dataclass(frozen=True)
class Failed:
    """A source died; it is started again after a while."""

    source: str
    reason: str
    at: float


@dataclass(frozen=True)
class Back:
    """A source that had failed works again."""

    source: str
    at: float


@dataclass(frozen=True)
class Ended:
    """A source has come to its end, as standard input does."""

    source: str


Item = Running | NewFile | NewWindow | Failed | Back | Ended
Emit = Callable[[Item], None]


class Source:
    """Where sound comes from. A thread of its own runs it."""

    name: str

    @property
    def restarts(self) -> bool:
        """Whether it can be started again after it failed."""
        return True

    def run(self, emit: Emit, stop: Event) -> None:
        """Hand over what comes until `stop` is set; return at the end, raise where it fails.

        The first item says that the source works. `emit` waits while the judging is busy.
        """
        raise NotImplementedError

    def finished(self, version: FileVersion) -> None:
        """Learn that a file was judged, or is to be looked at again."""

    def close(self) -> None:
        """End what `run` waits for; called from another thread."""


@dataclass(frozen=True)
class Cut:
    """How a stream is cut into the windows that the model takes."""

    sample_rate: int
    window_s: float
    hop_s: float
    preprocessing: Preprocessing
    """Without what alters a window."""
