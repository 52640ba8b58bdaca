"""`python -m cache`: look at stores, verify, merge, export, import and prune them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ground.text import one_line, visible

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
    """A command line with a mistake: exit code 2."""


def _plain(text: object) -> Text:
    """Make a text that the terminal shows as it is: no markup, no control characters."""
    return Text(visible(str(text)).replace("\n", r"\n").replace("\t", r"\t"))


def _tell(text: str) -> None:
    messages.print(_plain(text))


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


def _check_is_store(path: Path) -> None:
    """Raise UsageError where there is no store at `path`."""
    from cache.store import is_store

    if not is_store(path):
        raise UsageError(f"{path}: no embedding store here; `python -m cache ls` lists them")


def _existing(path: Path) -> EmbeddingStore:
    from cache.store import EmbeddingStore

    _check_is_store(path)
    return EmbeddingStore.at(path)


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
    found, unreadable = [], []
    for path in stores_in(directory):
        try:
            found.append(describe(path))
        except ValueError as error:
            unreadable.append(one_line(error))
    for reason in unreadable:
        messages.print(_plain(reason), style="red")
    if as_json:
        _print_json([asdict(description) for description in found])
    else:
        out.print(_listing(found, directory))
    if unreadable:
        raise typer.Exit(FAILED)


def _listing(found: list[Description], directory: Path) -> Table:
    """Lay out a row per store for `ls`."""
    table = Table(title=_plain(f"{len(found)} stores in {directory}"))
    for heading in ("data", "encoder", "pooling", "clips", "dim", "size", "date", "fingerprint"):
        table.add_column(
            heading, justify="right" if heading in ("clips", "dim", "size") else "left"
        )
    for store in found:
        unmerged = f" + {store.unmerged_parts} parts" if store.unmerged_parts else ""
        cells = (
            store.data_name,
            store.encoder if store.source == "computed" else "import",
            store.pooling,
            f"{store.clips:,}{unmerged}",
            _shape(store.row_shape),
            _size(store.bytes),
            (store.merged or store.created)[:10],
            store.fingerprint[:12],
        )
        table.add_row(*map(_plain, cells))
    return table


@app.command()
def show(store: Store, as_json: AsJson = False) -> None:
    """Show a store's configuration and where its rows come from."""
    from cache.inspection import describe

    _check_is_store(store)
    facts = asdict(describe(store))
    if as_json:
        _print_json(facts)
        return
    table = Table(show_header=False, title=_plain(store.name))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        lines = [f"{k} = {v}" for k, v in value.items()] if isinstance(value, dict) else [value]
        table.add_row(name.replace("_", " "), Text("\n").join(map(_plain, lines)))
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
    from cache.repairing import set_aside_unreadable
    from cache.store import is_store

    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder")
    for path in stores:
        _check_is_store(path)
    is_good = True
    answers = []
    for path in stores:
        aside, removed = [], []
        if repair:
            aside = [str(moved) for moved in set_aside_unreadable(path, _tell)]
        if aside and not is_store(path):
            answers.append({"path": str(path), "clips": 0, "intact": False, "set_aside": aside})
            continue
        checked = verify_store(path, data)
        if repair and not checked.intact:
            store = _existing(path)
            with store.lock(tell=_tell):
                removed = store.repair()
        is_good &= (repair or checked.intact) and not checked.counts["changed"]
        extra = {"intact": checked.intact, "removed": removed, "set_aside": aside}
        answers.append({**asdict(checked), **extra})
    if as_json:
        _print_json(answers)
    else:
        for answer in answers:
            _print_verification(answer)
    if not is_good:
        raise typer.Exit(FAILED)


def _print_verification(answer: dict[str, Any]) -> None:
    verdict = ("intact", "green") if answer["intact"] else ("damaged", "red")
    out.print(_plain(f"{answer['path']}: {answer['clips']:,} clips, ").append(*verdict))
    for moved in answer["set_aside"]:
        out.print(_plain(f"  cannot be read, set aside as {moved}"))
    if answer.get("structure"):
        out.print(_plain(f"  structure: {answer['structure']}"))
    for kind, n in answer.get("counts", {}).items():
        if n:
            out.print(_plain(f"  {n} {kind.replace('_', ' ')}, first {answer[kind][0]!r}"))
    if n := len(answer.get("removed", ())):
        out.print(f"  removed {n} rows; the next run computes them again")


@app.command()
def merge(
    stores: Annotated[list[Path], typer.Argument(help="One store with parts, or several stores.")],
    into: Annotated[Path | None, typer.Option("--into", help="The store that takes all.")] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Keep rows as float32 or float16 (0.05 % off).")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Put a store's parts, or several stores of one fingerprint, into one file.

    Stores of shards go into the store of their whole data set, unless --into names another.
    """
    if dtype not in ("", "float32", "float16"):
        raise UsageError(f"--dtype {dtype}: expected float32 or float16")
    for path in stores:
        _check_is_store(path)
    all_facts: list[dict[str, Any]] = []
    for merged in _merged(stores, into):
        if dtype:
            with merged.lock(tell=_tell):
                merged.convert(dtype)
        about = merged.about()
        all_facts.append({"path": str(merged.path), "clips": about.clips, "bytes": about.bytes})
    if as_json:
        _print_json(all_facts if len(all_facts) > 1 else all_facts[0])
        return
    for facts in all_facts:
        out.print(_plain(f"{facts['path']}: {facts['clips']:,} clips, {_size(facts['bytes'])}"))


def _merged(stores: list[Path], into: Path | None) -> Iterator[EmbeddingStore]:
    """Merge one store's parts, or several stores; UsageError where nothing says into which."""
    from cache.shards import shards_by_store
    from cache.transfer import merge_stores

    if into is not None:
        yield merge_stores(stores, into, _tell)
    elif len(stores) == 1:
        merged = _existing(stores[0])
        with merged.lock(tell=_tell):
            merged.merge()
        yield merged
    else:
        try:
            groups = shards_by_store(stores)
        except ValueError as error:
            raise UsageError(str(error)) from None
        for whole, shards in groups.items():
            if shards.absent:
                _tell(f"{whole}: without the shards {shards.absent}, which are not among these")
            yield merge_stores(shards.paths, whole, _tell)


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
    size = to.stat().st_size
    facts = {"path": str(to), "layout": layout, "clips": len(opened), "bytes": size}
    if as_json:
        _print_json(facts)
    else:
        out.print(_plain(f"{to}: {facts['clips']:,} clips as {layout}, {_size(size)}"))


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
    from cache.foreign_layouts import Choices

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
    store, report = import_to_store(file, cache_dir, choices, dtype, _tell)
    if as_json:
        _print_json({**asdict(report), "path": str(store.path)})
        return
    out.print(_plain(f"recognised: {report.recognised}"))
    if report.left_out:
        out.print(f"left out: {report.left_out}")
    rows = f"{report.rows:,} rows of {_shape(list(report.row_shape))}"
    out.print(_plain(f"{store.path}: {rows}"))


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
    if opened.header.source != "computed" and data is None:
        raise UsageError(f"{store} was imported, so it has no data root; give --data")
    root = data or Path(opened.header.data_root)
    if not root.is_dir():
        raise UsageError(f"{root}: the data root is not there, so nothing is pruned; give --data")
    gone = prune_store(opened, root, dry_run, _tell)
    if as_json:
        _print_json({"path": str(opened.path), "removed": gone, "dry_run": dry_run})
        return
    would = "would be removed" if dry_run else "removed"
    for key in gone:
        out.print(_plain(key))
    out.print(_plain(f"{opened.path}: {len(gone)} rows {would}"))


def main() -> None:
    """Run the command line; anything a user can cause is one line and an exit code."""
    try:
        app()
    except UsageError as error:
        messages.print(_plain(one_line(error)), style="red")
        sys.exit(USAGE)
    except KeyboardInterrupt:
        messages.print("interrupted; nothing half-written is left under a final name")
        sys.exit(130)
    except MemoryError:
        messages.print("not enough memory for this; free some, or use a smaller file", style="red")
        sys.exit(FAILED)
    except (OSError, ValueError, KeyError) as error:
        messages.print(_plain(_line(error)), style="red")
        sys.exit(FAILED)


def _line(error: Exception) -> str:
    """Say what went wrong in one line; an error of the system names its path and what to do."""
    from cache.failures import reason_of

    if not isinstance(error, OSError):
        return one_line(error)
    where = "" if error.filename is None else f"{error.filename}: "
    return one_line(ValueError(f"{where}{reason_of(error)}"))


if __name__ == "__main__":
    main()
