"""Sources that run beside each other: one that dies is started again, and the others go on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ground.text import one_line
from pipeline.watching.source import Back, Ended, Failed, Item, Source

MOST_WAITING = 16
"""Windows and files between the sources and the judging; then the sources wait."""
STEADY_S = 60.0
"""A source that ran for so long is started again without delay, as if it had never failed."""


@dataclass(frozen=True)
class BackOff:
    """Seconds until a source is started again: they double up to a longest."""

    first_s: float = 1.0
    longest_s: float = 300.0

    def after(self, n_failures: int) -> float:
        """Return the seconds to wait after so many failures in a row."""
        return min(self.longest_s, self.first_s * 2.0 ** min(n_failures - 1, 60))


@dataclass
class Supervision:
    """Runs each source in a thread, and hands what they give to one reader."""

    sources: Sequence[Source]
    back_off: BackOff = field(default_factory=BackOff)
    clock: Callable[[], float] = time.time
    stop: threading.Event = field(default_factory=threading.Event)
    _items: queue.Queue[Item] = field(default_factory=lambda: queue.Queue(MOST_WAITING))
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        for source in self.sources:
            thread = threading.Thread(
                target=self._run, args=(source,), name=f"source-{source.name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def next(self, timeout_s: float) -> Item | None:
        """Return the next item, or None after a while without any."""
        try:
            return self._items.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the sources; one that cannot be stopped ends with the process."""
        self.stop.set()
        for source in self.sources:
            source.close()
        until = time.monotonic() + timeout_s
        for source, thread in zip(self.sources, self._threads, strict=False):
            if source.restarts:  # nothing ends a read of standard input
                thread.join(max(0.0, until - time.monotonic()))

    def _run(self, source: Source) -> None:
        """Run a source again and again until it ends, or all are stopped."""
        n_failures, has_failed = 0, False

        def emit(item: Item) -> None:
            nonlocal has_failed
            if has_failed:
                has_failed = False
                self._put(Back(source.name, self.clock()))
            self._put(item)

        while not self.stop.is_set():
            started = time.monotonic()
            try:
                source.run(emit, self.stop)
            except Exception as error:  # whatever ends a source must not end the others
                reason = one_line(error)
            else:
                self._put(Ended(source.name))
                return
            if self.stop.is_set():
                return
            n_failures = 1 if time.monotonic() - started > STEADY_S else n_failures + 1
            if not has_failed:
                has_failed = True
                self._put(Failed(source.name, reason, self.clock()))
            if not source.restarts:
                self._put(Ended(source.name))
                return
            self.stop.wait(self.back_off.after(n_failures))

    def _put(self, item: Item) -> None:
        """Hand an item over, and wait while there are enough of them."""
        while not self.stop.is_set():
            try:
                self._items.put(item, timeout=0.5)
            except queue.Full:
                continue
            return
