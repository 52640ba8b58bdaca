"""`python -m cache`: look at stores, verify, merge, export, import and prune them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from cache.inspection import Description
    from cache.store import EmbeddingStore

DONE, FAILED, USAGE = 0, 1, 2

out = Console(highlight=False, soft_wrap=True)
if not out.is_terminal:
    out.width = 160  # a pipe has no width; rows stay on one line
messages = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look at the stores of vectors; verify, merge, export, import and prune them.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Store = Annotated[Path, typer.Argument(help="A store, an .h5 file of the cache folder.")]
CacheDir = Annotated[Path, typer.Option("--cache-dir", help="Where vectors are kept.")]
DataDir = Annotated[Path | None, typer.Option("--data", help="The folder of the recordings.")]

HERE = Path("embeddings")


class UsageError(ValueError):
    """A command line that cannot be meant: exit code 2."""


def _shape(shape: list[int]) -> str:
    return " x ".join(map(str, shape))


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit in ("B", "kB") else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.2f} TB"


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _existing(path: Path) -> EmbeddingStore:
    from cache.store import EmbeddingStore

    try:
        return EmbeddingStore.at(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no embedding store here; `python -m cache ls` lists them") from (
            None
        )


@app.command()
def ls(
    directory: Annotated[Path, typer.Argument(help="The cache folder.")] = HERE,
    as_json: AsJson = False,
) -> None:
    """List the stores of a cache folder."""
    from cache.inspection import describe
    from cache.store import stores_in

    if not directory.is_dir():
        raise UsageError(f"{directory}: no such folder; --cache-dir of a run decides where it is")
    found = describe(paths) if (paths := stores_in(directory)) else []
    good = [each for each in found if not isinstance(each, ValueError)]
    for each in found:
        if isinstance(each, ValueError):
            messages.print(str(each), style="red")
    if as_json:
        _print_json([asdict(each) for each in good])
    else:
        out.print(_listing(good, directory))
    if len(good) < len(found):
        raise typer.Exit(FAILED)


def _listing(found: list[Description], directory: Path) -> Table:
    table = Table(title=f"{len(found)} stores in {directory}")
    for heading in ("data", "encoder", "pooling", "clips", "dim", "size", "date", "fingerprint"):
        table.add_column(
            heading, justify="right" if heading in ("clips", "dim", "size") else "left"
        )
    for each in found:
        unmerged = f" + {each.unmerged_parts} parts" if each.unmerged_parts else ""
        table.add_row(
            each.data_name,
            each.encoder if each.source == "computed" else "import",
            each.pooling,
            f"{each.clips:,}{unmerged}",
            _shape(each.row_shape),
            _size(each.bytes),
            (each.merged or each.created)[:10],
            each.fingerprint[:12],
        )
    return table


@app.command()
def show(store: Store, as_json: AsJson = False) -> None:
    """Show a store's configuration and where its rows come from."""
    from cache.inspection import describe

    if not store.exists() and not store.with_suffix(".parts").is_dir():
        raise UsageError(f"{store}: no embedding store here; `python -m cache ls` lists them")
    (found,) = describe([store])
    if isinstance(found, ValueError):
        raise found
    facts = asdict(found)
    if as_json:
        _print_json(facts)
        return
    table = Table(show_header=False, title=store.name)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if isinstance(value, dict):
            table.add_row(name, "\n".join(f"{k} = {v}" for k, v in value.items()))
        else:
            table.add_row(name.replace("_", " "), str(value))
    out.print(table)


@app.command()
def verify(
    stores: Annotated[list[Path], typer.Argument(help="Stores to verify.")],
    data: DataDir = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove wrong rows, for the next run to compute again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every row: count, finite, checksums; with --data against the recordings.

    Exit code 1 if a row is damaged, not finite or under a wrong name and was not removed, or its
    recording has changed.
    """
    from cache.inspection import verify as verify_store

    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder")
    for path in stores:
        _existing_path(path)
    checked = [verify_store(path, data) for path in stores]
    removed = [
        _existing(path).repair() if repair and not each.intact else []
        for path, each in zip(stores, checked, strict=True)
    ]
    if as_json:
        both = zip(checked, removed, strict=True)
        _print_json([{**asdict(c), "intact": c.intact, "removed": r} for c, r in both])
    else:
        for each, gone in zip(checked, removed, strict=True):
            wrong = {kind: n for kind, n in each.counts.items() if n}
            verdict = "[green]intact[/]" if each.intact else "[red]damaged[/]"
            out.print(f"{each.path}: {each.clips:,} clips, {verdict}")
            for kind, n in wrong.items():
                out.print(f"  {n} {kind.replace('_', ' ')}, first {getattr(each, kind)[0]!r}")
            if gone:
                out.print(f"  removed {len(gone)} rows; the next run computes them again")
    if not all((repair or each.intact) and not each.counts["changed"] for each in checked):
        raise typer.Exit(FAILED)


def _existing_path(path: Path) -> None:
    if not path.exists() and not path.with_suffix(".parts").is_dir():
        raise UsageError(f"{path}: no embedding store here; `python -m cache ls` lists them")


@app.command()
def merge(
    stores: Annotated[list[Path], typer.Argument(help="One store with parts, or several stores.")],
    into: Annotated[Path | None, typer.Option("--into", help="The store that takes all.")] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Keep rows as float32 or float16 (0.05 % off).")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Put a store's parts, or several stores of one fingerprint, into one file."""
    from cache.transfer import merge_stores

    if dtype not in ("", "float32", "float16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or float16")
    for path in stores:
        _existing_path(path)
    if len(stores) > 1 and into is None:
        raise UsageError("several stores need --into FILE, the store that takes all")
    if into is not None:
        merged = merge_stores(stores, into)
    else:
        merged = _existing(stores[0])
        merged.merge()
    if dtype:
        merged.convert(dtype)
    about = merged.about()
    facts = {"path": str(merged.path), "clips": about.clips, "bytes": about.bytes}
    if as_json:
        _print_json(facts)
    else:
        out.print(f"{merged.path}: {about.clips:,} clips, {_size(about.bytes)}")


@app.command()
def export(
    store: Store,
    to: Annotated[Path, typer.Argument(help="The file to write.")],
    layout: Annotated[
        str, typer.Option("--layout", help="npz, or datasets: HDF5 with a dataset per clip.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write a store for other programs, as npz or as HDF5 with one dataset per clip."""
    from cache.transfer import LAYOUTS
    from cache.transfer import export as export_store

    layout = layout or ("npz" if to.suffix == ".npz" else "datasets")
    if layout not in LAYOUTS:
        raise UsageError(f"--layout {layout}: expected {' or '.join(LAYOUTS)}")
    opened = _existing(store)
    export_store(opened, to, layout)
    facts = {"path": str(to), "layout": layout, "clips": len(opened), "bytes": to.stat().st_size}
    if as_json:
        _print_json(facts)
    else:
        out.print(f"{to}: {facts['clips']:,} clips as {layout}, {_size(to.stat().st_size)}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="HDF5, npz or a folder of npy of another tool.")],
    cache_dir: CacheDir = HERE,
    embeddings_key: Annotated[
        str, typer.Option("--embeddings-key", help="Name of the array of embeddings.")
    ] = "",
    names_key: Annotated[str, typer.Option("--names-key", help="Name of the array of names.")] = "",
    axes: Annotated[
        str, typer.Option("--axes", help="Frames as ntd (time, dim) or ndt (dim, time).")
    ] = "",
    match: Annotated[
        str, typer.Option("--match", help="path, name or stem; the latter two keep file names.")
    ] = "",
    dequantise: Annotated[
        bool, typer.Option("--dequantise", help="Accept uint8, VGGish's quantised vectors.")
    ] = False,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Keep rows as float32 or float16.")
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Keep another program's embeddings, under the file's own names, in a store."""
    from cache.foreign import import_to_store
    from cache.foreign_reader import Choices

    if not file.exists():
        raise UsageError(f"{file}: no such file or folder")
    if dtype not in ("float32", "float16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or float16")
    try:
        choices = Choices(
            embeddings_key=embeddings_key,
            names_key=names_key,
            axes=axes,
            dequantise=dequantise,
            match=match,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    store, report = import_to_store(file, cache_dir, choices, dtype)
    if as_json:
        _print_json({**asdict(report), "path": str(store.path)})
        return
    out.print(f"recognised: {report.recognised}")
    if report.left_out:
        out.print(f"left out: {report.left_out}")
    out.print(f"{store.path}: {report.rows:,} rows of {_shape(list(report.row_shape))}")


@app.command()
def prune(
    store: Store,
    data: DataDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove the rows of clips that are no longer under the data root."""
    from cache.transfer import prune as prune_store

    opened = _existing(store)
    if opened.identity.source != "computed" and data is None:
        raise UsageError(f"{store} was imported, so it has no data root; give --data")
    root = data or Path(opened.identity.data_root)
    if not root.is_dir():
        raise UsageError(f"{root}: the data root is not there, so nothing is pruned; give --data")
    gone = prune_store(opened, root, dry_run)
    if as_json:
        _print_json({"path": str(opened.path), "removed": gone, "dry_run": dry_run})
        return
    would = "would be removed" if dry_run else "removed"
    for key in gone:
        out.print(key, markup=False)
    out.print(f"{opened.path}: {len(gone)} rows {would}")


def main() -> None:
    """Run the command line; anything a user can cause is one line and an exit code."""
    try:
        app()
    except UsageError as error:
        messages.print(str(error), style="red", markup=False)
        sys.exit(USAGE)
    except KeyboardInterrupt:
        messages.print("interrupted; nothing half-written is left under a final name")
        sys.exit(130)
    except (OSError, ValueError, KeyError) as error:
        messages.print(_line(error), style="red", markup=False)
        sys.exit(FAILED)


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


if __name__ == "__main__":
    main()
