"""Published weights: `python -m fetch list`, `fetch`, `verify`, `path`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fetch import progress
from fetch.download import megabytes
from fetch.hashes import forget_hashes
from fetch.weights import WEIGHTS, Weights, find_checkpoint

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Published weights of the encoders: list, fetch, verify, path.",
)

Names = Annotated[list[str] | None, typer.Argument(help="Encoders; all of them by default.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]


@app.command("list")
def list_weights() -> None:
    """List what can be fetched, from where, and whether it is here."""
    for row in WEIGHTS.values():
        files = row.source.files
        size = files[0].about_size or megabytes(sum(file.size for file in files))
        found = row.source.find(row.folder) or "not on this machine"
        print(f"{row.encoder}: {size}, {row.licence}, {found}")
        for file in files:
            expected = file.hash or "hash recorded when first fetched"
            print(f"  {file.name}, {file.size_in_words}, {expected}")
            for url in file.urls:
                print(f"    {url}")
        print(f"  {row.citation}")


@app.command()
def fetch(names: Names = None, offline: Offline = False) -> None:
    """Fetch what is not here; print where it is. The others are fetched even if one fails."""
    failed = False
    for row in _rows(names):
        try:
            print(find_checkpoint("", row, offline=offline).path)
        except (ValueError, OSError) as error:
            failed = True
            print(f"error: {row.encoder}: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@app.command()
def verify(names: Names = None) -> None:
    """Hash every file anew; fail unless all are here and right."""
    forget_hashes()
    missing, wrong = [], False
    for row in _rows(names):
        found = row.source.find(row.folder)
        if found is None:
            missing.append(row.encoder)
            print(f"{row.encoder}: missing or damaged, {_home(row)}")
            continue
        try:
            state = "ok" if row.source.is_verifiable else "nothing to compare with, recorded now"
            row.source.checkpoint_hash(found)
            print(f"{row.encoder}: {state}, {found}")
        except (ValueError, OSError) as error:
            wrong = True
            print(f"error: {row.encoder}: {error}", file=sys.stderr)
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: missing or damaged; python -m fetch fetch "
            f"{' '.join(missing)} gets them"
        )
    if wrong:
        raise typer.Exit(1)


@app.command()
def path(name: str) -> None:
    """Print where an encoder's weights are, or where they are to be put."""
    (row,) = _rows([name])
    print(row.source.find(row.folder) or _home(row))


def _rows(names: list[str] | None) -> list[Weights]:
    for name in names or ():
        if name not in WEIGHTS:
            raise typer.BadParameter(
                f"{name!r} has no published weights; those that have are {', '.join(WEIGHTS)}"
            )
    return [WEIGHTS[name] for name in names or WEIGHTS]


def _home(row: Weights) -> Path:
    return row.folder if row.source.is_folder else row.folder / row.source.files[0].name


@contextmanager
def _bar(name: str, size: int) -> Iterator[progress.Advance]:
    """Show a bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(escape(name), total=size or None)
        yield lambda n_bytes: bars.update(task, completed=n_bytes)


def main() -> int:
    """Run the command line; an error that a user can cause is one line, and exit code 1."""
    progress.display = _bar
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
