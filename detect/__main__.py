"""Fit and evaluate detectors on vectors: `python -m detect list`, `python -m detect evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from detect import DETECTORS

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.command("list")
def list_detectors() -> None:
    """List the detectors."""
    for name, row in DETECTORS.items():
        print(f"{name:18} {row.takes:10} {row.about}")


@app.command()
def evaluate(
    vectors: Annotated[
        Path,
        typer.Argument(exists=True, dir_okay=False, help="npz with train, test and is_anomalous"),
    ],
    detector: Annotated[str, typer.Option("-d", "--detector", help="names")] = "mahalanobis",
    scaler: Annotated[str, typer.Option(help="standard or none")] = "standard",
    seed: Annotated[int, typer.Option(help="seed of everything random")] = 0,
) -> None:
    """Fit to `train` (n, dim), rate `test`, compare with `is_anomalous`."""
    from detect.evaluate import ClipTable, DetectorChoice, fit_and_score, results, units
    from report.tables import results_table

    with np.load(vectors, allow_pickle=False) as file:
        absent = {"train", "test", "is_anomalous"} - set(file.files)
        if absent:
            raise ValueError(f"{vectors} lacks {', '.join(sorted(absent))}; it has {file.files}")
        train, test, truth = file["train"], file["test"], file["is_anomalous"].astype(bool)
    X = np.concatenate([train, test])
    n, total = len(train), len(X)
    table = ClipTable(
        key=tuple(f"{i:08d}" for i in range(total)),
        machine_type=(vectors.stem,) * total,
        machine_id=("id_00",) * total,
        split=("train",) * n + ("test",) * (total - n),
        label=("normal",) * n + tuple("anomalous" if t else "normal" for t in truth),
    )
    for name in detector.split(","):
        if name not in DETECTORS:
            raise ValueError(f"There is no detector {name!r}; there are {', '.join(DETECTORS)}")
        choice = DetectorChoice(name, scaler=scaler)
        scores = [
            fit_and_score(unit, lambda keys: X[[int(key) for key in keys]], choice, seed)
            for unit in units(table)
        ]
        Console().print(results_table(results(table, scores)[:1], title=name))


def main() -> None:
    """Run the command line; what a user can cause ends in one line."""
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
