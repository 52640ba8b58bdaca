"""Ctrl-C: what is begun is finished and kept, and a second one ends the process at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.exits import INTERRUPTED
from pipeline.screen import messages


@contextmanager
def stopping_after_a_batch() -> Iterator[None]:
    """Say at the first Ctrl-C what is waited for; end the process at the second.

    Rows that are written are complete and on disk at any time, so nothing kept is lost. Outside
    the main thread, or where the program has a handler of its own, nothing is changed.
    """
    earlier = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or earlier is not signal.default_int_handler:
        yield
        return

    def stop(*_: Any) -> None:
        end_at_the_next()
        messages.print("stopping after this batch; Ctrl-C again stops now")
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def end_at_the_next() -> None:
    """Let the next Ctrl-C end the process at once, without a traceback."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the main process; called first in each worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
