"""A folder into which recordings come: each is handed over once it is finished.

A file is finished when its size and time have been the same for a while. Events of the file system
tell early what is new; the whole folder is looked at now and then as well, since a network share
gives no events and an event can be lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from embed.recordings.dataset import FileStats, file_stats_of
from embed.recordings.folders import Walk
from embed.recordings.formats import is_recording, why_unreadable
from embed.recordings.new_clips import Machine, machine_of_file
from pipeline.watching.source import Emit, NewFile, Running, Source
from pipeline.watching.state import FileVersion, WatchState, connect

LOOK_S = 5.0
"""Seconds between two looks at the whole folder, at least."""
LOOKS_SHARE = 0.02
"""Share of the time that may go into them, where a folder holds very many files."""
TICK_S = 0.5

Found = tuple[str, str, FileStats]
"""The key of the folder, empty or ending in `/`, the name of the file, its size and time."""


@dataclass
class _Waiting:
    """A file that may still be written to."""

    version: FileVersion
    path: Path
    machine: Machine
    since: float


@dataclass
class FolderSource(Source):
    """Watches a folder and all folders below it."""

    name: str
    folder: Path
    names: Mapping[str, Machine]
    """What a folder may call a machine, by `names_of`."""
    state_file: Path
    settle_s: float = 3.0
    machine: Machine | None = None
    """The machine of all files, where their folders do not tell."""
    once: bool = False
    """Whether it ends when all that is there now was handed over."""
    clock: Callable[[], float] = time.monotonic
    _waiting: dict[str, _Waiting] = field(default_factory=dict, repr=False)
    _in_work: dict[str, FileVersion] = field(default_factory=dict, repr=False)
    _next_look: float = field(default=0.0, repr=False)

    def run(self, emit: Emit, stop: Event) -> None:
        """Hand over finished files; OSError where the folder cannot be read."""
        root = self.folder.absolute()
        self._waiting.clear()
        self._next_look = 0.0
        with closing(WatchState(connect(self.state_file))) as state:
            for changed in self._wake_ups(root, stop):
                if self.clock() >= self._next_look:
                    self._note_all(root, state)
                    emit(Running(self.name))
                else:
                    self._note_changed(root, changed, state)
                self._hand_over(emit)
                if self.once and not self._waiting and not self._in_work:
                    return

    def finished(self, version: FileVersion) -> None:
        """Let go of a file: it is judged, or is looked at again."""
        self._in_work.pop(version.path, None)

    def _wake_ups(self, root: Path, stop: Event) -> Iterator[set[str]]:
        """Yield now and then, with the paths that changed; without events where there are none."""
        yield set()
        with suppress(OSError, RuntimeError):  # watchfiles raises its own for a lack of watches
            from watchfiles import watch

            tick_ms = round(1000 * TICK_S)
            for changes in watch(
                root,
                watch_filter=None,
                stop_event=stop,
                rust_timeout=tick_ms,
                debounce=tick_ms,
                yield_on_timeout=True,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                if stop.is_set():
                    return
                yield {path for _, path in changes}
        while not stop.wait(TICK_S):
            yield set()

    def _note_all(self, root: Path, state: WatchState) -> None:
        """Look at every file; the next time after a while that grows with the effort."""
        started = self.clock()
        walk = Walk(root)
        for file in walk.files():
            self._note(root, (file.folder, file.name, file.stats), state)
        effort = self.clock() - started
        self._next_look = self.clock() + max(LOOK_S, effort / LOOKS_SHARE)
        if self.once:
            self._next_look = 0.0

    def _note_changed(self, root: Path, changed: set[str], state: WatchState) -> None:
        """Look at what changed; a new folder makes the whole be looked at soon."""
        for text in changed:
            path = Path(text)
            try:
                key = path.relative_to(root)
                about = path.stat()
                text.encode()
            except (OSError, ValueError):
                continue
            if path.is_dir():
                self._next_look = 0.0
            elif not any(part.startswith(".") or part == "__MACOSX" for part in key.parts):
                folder = "" if key.parent == Path() else f"{key.parent.as_posix()}/"
                self._note(root, (folder, key.name, file_stats_of(about)), state)

    def _note(self, root: Path, found: Found, state: WatchState) -> None:
        """Let a file wait until it is finished, unless it was judged or is being judged."""
        folder, name, (size, mtime_ns) = found
        if not is_recording(name) or why_unreadable(name):
            return
        version = FileVersion(self.name, folder + name, size, mtime_ns)
        waiting = self._waiting.get(version.path)
        if waiting is not None and waiting.version == version:
            return
        if self._in_work.get(version.path) == version:
            return
        if state.is_judged(version):
            self._waiting.pop(version.path, None)
            return
        machine = self.machine or machine_of_file(root, folder, name, self.names)
        self._waiting[version.path] = _Waiting(version, root / folder / name, machine, self.clock())

    def _hand_over(self, emit: Emit) -> None:
        """Hand over the files that are finished, in the order of their times."""
        now = self.clock()
        ready = [w for w in self._waiting.values() if now - w.since >= self.settle_s]
        for waiting in sorted(ready, key=lambda w: (w.version.mtime_ns, w.version.path)):
            try:
                stats = file_stats_of(waiting.path.stat())
            except OSError:
                self._waiting.pop(waiting.version.path)  # it went, or comes back with a look
                continue
            version = FileVersion(self.name, waiting.version.path, *stats)
            if version != waiting.version:
                waiting.version, waiting.since = version, now
            elif version.path not in self._in_work:
                del self._waiting[version.path]
                self._in_work[version.path] = version
                emit(NewFile(self.name, version, waiting.path, waiting.machine))
