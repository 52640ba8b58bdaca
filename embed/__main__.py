"""Look around before a run: `python -m embed weights list`, `clips`, `encoders`."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from embed import ENCODERS, POOLINGS
from fetch.download import megabytes
from fetch.places import weights_folder
from fetch.weights import (
    WEIGHTS,
    Weights,
    find_checkpoint,
    find_published,
    is_verifiable,
    verified_identity,
)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
weights = typer.Typer(no_args_is_help=True, help="Published weights: list, fetch, verify, path.")
app.add_typer(weights, name="weights")

Names = Annotated[list[str] | None, typer.Argument(help="Encoders; all of them by default.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]


@weights.command("list")
def list_weights() -> None:
    """List what can be fetched, from where, and whether it is here."""
    for row in WEIGHTS.values():
        found = find_published(row)
        size = row.files[0].about_size or megabytes(sum(file.size for file in row.files))
        print(f"{row.encoder}: {size}, {row.licence}, {found or 'not on this machine'}")
        for file in row.files:
            size = file.about_size or megabytes(file.size)
            print(f"  {file.name}, {size}, {file.hash or 'hash recorded when first fetched'}")
            for url in file.urls:
                print(f"    {url}")
        print(f"  {row.citation}")


@weights.command()
def fetch(names: Names = None, offline: Offline = False) -> None:
    """Fetch what is not here; print where it is. One failure does not keep the others back."""
    failed = False
    for row in _rows(names):
        try:
            print(find_checkpoint("", row, offline=offline).path)
        except (ValueError, OSError) as error:
            failed = True
            print(f"error: {row.encoder}: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(1)


@weights.command()
def verify(names: Names = None) -> None:
    """Hash every file; fail unless all are here and right."""
    missing, wrong = [], False
    for row in _rows(names):
        found = find_published(row)
        if found is None:
            missing.append(row.encoder)
            print(f"{row.encoder}: missing or damaged, {_home(row)}")
            continue
        try:
            state = "ok" if is_verifiable(row) else "nothing to compare with, recorded now"
            verified_identity(row, found)
            print(f"{row.encoder}: {state}, {found}")
        except (ValueError, OSError) as error:
            wrong = True
            print(f"error: {row.encoder}: {error}", file=sys.stderr)
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: not here whole; python -m embed weights fetch "
            f"{' '.join(missing)} gets them"
        )
    if wrong:
        raise typer.Exit(1)


@weights.command()
def path(name: str) -> None:
    """Print where an encoder's weights are, or where they are to be put."""
    (row,) = _rows([name])
    print(find_published(row) or _home(row))


@app.command()
def clips(
    data: Annotated[Path, typer.Argument(help="A folder of recordings or a CSV manifest.")],
    every: Annotated[bool, typer.Option("--every", help="List each clip.")] = False,
) -> None:
    """Count the clips per machine, split and label, and say what was left out."""
    from embed.recordings.clips import find_clips

    found = find_clips(data)
    print(f"{found.root}: {found.layout}, {len(found.clips)} clips")
    if every:
        for clip in found.clips:
            print("\t".join((clip.key, *clip.machine, clip.split, clip.label, clip.domain)))
    else:
        counts = Counter((*c.machine, c.split, c.label) for c in found.clips)
        for (machine_type, machine_id, split, label), n in sorted(counts.items()):
            print(f"  {machine_type} {machine_id} {split} {label}: {n}")
    for key, reason in found.skipped:
        print(f"  left out: {key}: {reason}")


@app.command()
def encoders() -> None:
    """List the encoders and the poolings."""
    for title, registry in (("encoders", ENCODERS), ("poolings", POOLINGS)):
        print(title)
        for name, row in registry.items():
            print(f"  {name:14} {row.about}")


def _rows(names: list[str] | None) -> list[Weights]:
    for name in names or ():
        if name not in WEIGHTS:
            raise typer.BadParameter(
                f"{name!r} has no published weights; those that have are {', '.join(WEIGHTS)}"
            )
    return [WEIGHTS[name] for name in names or WEIGHTS]


def _home(row: Weights) -> Path:
    folder = weights_folder(row.encoder)
    return folder if row.is_folder else folder / row.files[0].name


def main() -> int:
    """Run the command line; what a user can cause ends in one line."""
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
