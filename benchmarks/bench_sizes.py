"""Processor time against clips, dimensions and machines, with fitted exponents and a figure.

    python benchmarks/bench_sizes.py                    # up to 10^5 clips and 10^3 machines
    python benchmarks/bench_sizes.py --clips 1000000 --machines 10000 --dims 6144

Clips and dimensions: one machine is fitted and its thresholds are computed. Machines: the whole job
on vectors of another tool, from the file to the run folder, 30 clips of 32 dimensions each, in one
process. An exponent is the slope between the two largest sizes, where constant costs matter least.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np
from threadpoolctl import threadpool_limits

from detect.fitting import DetectorChoice, FitUnit, fit
from detect.out_of_fold import out_of_fold
from pipeline.job import run

HERE = Path(__file__).parent
CLIPS_PER_MACHINE = 30
SHORT_S = 2.0
"""What takes less is measured three times."""


def vectors(n: int, dim: int, seed: int = 0) -> np.ndarray:
    """Draw vectors (n, dim) that vary in a few directions mostly, as embeddings do."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(16, dim)).astype(np.float32)
    drawn = rng.normal(size=(n, 16)).astype(np.float32) @ mixing
    return drawn + 0.3 * rng.normal(size=(n, dim)).astype(np.float32)


def seconds_of(work: Callable[[], object]) -> float:
    """Measure processor time: the median of three, or the first of what takes long."""
    taken: list[float] = []
    while len(taken) < 3 and (not taken or taken[0] < SHORT_S):
        start = process_time()
        work()
        taken.append(process_time() - start)
    return float(np.median(taken))


def of_one_machine(name: str, n: int, dim: int) -> float:
    """Fit a detector to n clips and rate each out of its fold; seconds."""
    X = vectors(n, dim)
    keys = tuple(f"{i:07d}.wav" for i in range(n))
    unit = FitUnit("simulated", "id_00", keys, ("id_00",) * n, (), ())

    def read(asked):
        return X[[int(key[:7]) for key in asked]]

    def work() -> None:
        fit(unit, read, DetectorChoice(name))
        out_of_fold(unit, read, DetectorChoice(name))

    return seconds_of(work)


def of_machines(n: int) -> float:
    """Run the whole job on n machines; seconds."""
    splits = ("train/normal", "test/normal", "test/anomaly")
    counts = (CLIPS_PER_MACHINE - 10, 5, 5)
    names = [
        f"fan/{split}_id_{machine:05d}_{i:08d}.wav"
        for machine in range(n)
        for split, count in zip(splits, counts, strict=True)
        for i in range(count)
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "theirs.npz"
        np.savez(file, embeddings=vectors(len(names), 32), filenames=names)
        flags = {"cache_dir": f"{folder}/cache", "out": f"{folder}/runs", "workers": 1}
        start = process_time()
        run(embeddings=str(file), detector="mahalanobis", quiet=True, **flags)
        return process_time() - start


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Slope between the two largest sizes, both axes logarithmic."""
    (x0, x1), (y0, y1) = np.log(sizes[-2:]), np.log(seconds[-2:])
    return float((y1 - y0) / (x1 - x0))


def tens(first: int, last: int) -> list[int]:
    return [first * 10**i for i in range(20) if first * 10**i <= last]


def measured(clips: int, machines: int, dims: int) -> dict[str, dict[str, list[float]]]:
    """Measure every line of the figure: sizes and seconds by its name."""
    widths = [width for width in (128, 384, 768, 2048, 6144) if width <= dims]
    of_machines(1)  # imports
    lines: dict[str, tuple[list[int], Callable[[int], float]]] = {
        "machines, whole job": (tens(1, machines), of_machines),
        "clips, mahalanobis, 64-d": (
            tens(100, clips),
            lambda n: of_one_machine("mahalanobis", n, 64),
        ),
        "clips, knn, 64-d": (tens(100, min(clips, 10_000)), lambda n: of_one_machine("knn", n, 64)),
        "dimensions, mahalanobis, 200 clips": (
            widths,
            lambda dim: of_one_machine("mahalanobis", 200, dim),
        ),
        "dimensions, knn, 200 clips": (widths, lambda dim: of_one_machine("knn", 200, dim)),
    }
    found = {}
    for name, (sizes, work) in lines.items():
        found[name] = {"sizes": sizes, "seconds": [round(work(size), 4) for size in sizes]}
        print(f"| {name} | {sizes} | {found[name]['seconds']} |", flush=True)
    return found


def draw(found: dict[str, dict[str, list[float]]], path: Path) -> None:
    """Draw all lines on logarithmic axes, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    for name, line in found.items():
        slope = exponent(line["sizes"], line["seconds"])
        axis.loglog(line["sizes"], line["seconds"], "o-", label=f"{name}: exponent {slope:.2f}")
    axis.set_xlabel("clips, dimensions or machines")
    axis.set_ylabel("processor seconds")
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--dims", type=int, default=6144)
    parser.add_argument("--draw", type=Path, default=HERE / "sizes.svg")
    parser.add_argument("--keep", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    with threadpool_limits(1, user_api="blas"):
        found = measured(options.clips, options.machines, options.dims)
    for name, line in found.items():
        print(f"| {name} | {exponent(line['sizes'], line['seconds']):.2f} |")
    if options.keep:
        options.keep.write_text(json.dumps(found, indent=1))
    draw(found, options.draw)


if __name__ == "__main__":
    main()
