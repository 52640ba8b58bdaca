"""What a person watches: messages and progress on standard error, results on standard output."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

SECONDS_PER_LINE = 10.0  # where there is no screen

messages = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
"""What a person watches; results go to standard output."""


def say(kind: str, text: str, style: str) -> None:
    """Print a message that begins with its kind, in colour."""
    messages.print(Text.assemble((f"{kind}:", style), f" {text}"))


@dataclass(frozen=True)
class Advance:
    """Called for each thing done; `tell` says what is going on meanwhile, where there is a bar."""

    count: Callable[[], None]
    tell: Callable[[str], None]

    def __call__(self) -> None:
        self.count()


class _Relay(logging.Handler):
    """Prints what a room logs: remarks as they are, warnings by their name."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            messages.print(record.getMessage())
        else:
            say("warning", record.getMessage(), "yellow")


def show_downloads(*, quiet: bool) -> None:
    """Show a bar for each download from now on; nothing if `quiet`."""
    from fetch import progress as downloads

    downloads.display = downloads.silent if quiet else _download_bar


@contextmanager
def _download_bar(name: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show a download as a bar on a terminal, as one line elsewhere."""
    from rich.progress import (
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    if not messages.is_terminal:
        messages.print(f"fetching {name}")
    with Progress(*columns, console=messages, disable=not messages.is_terminal) as bar:
        task = bar.add_task(name, total=size or None)
        yield lambda n_bytes: bar.update(task, completed=n_bytes)


def relay_rooms(*, quiet: bool) -> None:
    """Print what embedding and fetching log, and their downloads; only warnings if `quiet`."""
    for room in ("embed", "fetch"):
        relay(room, quiet=quiet)
    show_downloads(quiet=quiet)


def relay(room: str, *, quiet: bool) -> None:
    """Print what a room logs from now on; only its warnings if `quiet`."""
    logger = logging.getLogger(room)
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    if not any(isinstance(handler, _Relay) for handler in logger.handlers):
        logger.addHandler(_Relay())


def _bar_columns() -> tuple[ProgressColumn, ...]:
    """Lay out a bar: what is done, how much of it, how fast, and the time left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


@contextmanager
def progress(what: str, total: int, unit: str, *, quiet: bool) -> Iterator[Advance]:
    """Show a bar with rate and time left, or a line now and then where there is no screen."""
    from rich.progress import Progress

    started = last = time.monotonic()
    done, doing = 0, ""

    class Bar(Progress):
        """A bar, and below it what is going on."""

        def get_renderables(self) -> Iterator[RenderableType]:
            yield self.make_tasks_table(self.tasks)
            if doing:
                yield Text(doing, "dim", no_wrap=True, overflow="ellipsis")

    def rate() -> str:
        return f"{done / max(time.monotonic() - started, 1e-9):.1f} {unit}/s"

    live = messages.is_terminal and not quiet
    with Bar(*_bar_columns(), console=messages, disable=not live, transient=True) as bar:
        task = bar.add_task(what, total=total, rate="")

        def print_sometimes(line: Callable[[], str]) -> None:
            nonlocal last
            if not live and not quiet and time.monotonic() - last > SECONDS_PER_LINE:
                last = time.monotonic()
                messages.print(f"{what}: {line()}")

        def left() -> str:
            seconds = (total - done) * (time.monotonic() - started) / done
            return f"{done} of {total}, {rate()}, {seconds:.0f} s left"

        def count() -> None:
            nonlocal done, doing
            done, doing = done + 1, ""
            bar.update(task, completed=done, rate=rate())
            print_sometimes(left)

        def tell(text: str) -> None:
            nonlocal doing
            doing = text
            print_sometimes(lambda: text)

        yield Advance(count, tell)
    if not quiet:
        counted = f"{done} {unit if done != 1 else unit[:-1]}"
        messages.print(f"{what}: {counted} in {time.monotonic() - started:.1f} s, {rate()}")


def results_screen() -> Console:
    """Return standard output, wide enough for a table where it goes to a file or a pipe."""
    screen = Console(highlight=False)
    return screen if screen.is_terminal else Console(highlight=False, width=160)
