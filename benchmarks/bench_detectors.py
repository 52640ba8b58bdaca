"""Our detectors beside their stock references: fit to 1,000 clips and score 1,100.

    python benchmarks/bench_detectors.py [--rounds 9] [--threads 2] [--only vectors]
    python benchmarks/bench_detectors.py --only folds
    python benchmarks/bench_detectors.py --many-ids

Variants take turns in one process. A busy neighbour slows single rounds, so that the median of
each variant's faster half is printed, by the clock and in processor time of all threads, and the
ratios of these. The difference is the largest relative one over the 1,100 clips. PyOD's
autoencoder is compared where PyOD is installed. `--json FOLDER` keeps the comparison with
scikit-learn as a record (records.py). `--only folds` times out-of-fold scores beside one
fit. `--many-ids` fits and rates 1,000 machine IDs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from joblib import Parallel, delayed
from records import make_record, save, table
from rich.console import Console
from rich.table import Table
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM as StockOneClassSVM
from threadpoolctl import threadpool_limits
from torch import nn

from detect import make_detector
from detect.detector import scores_out_of_fold
from detect.detectors import networks
from detect.detectors.autoencoder import Autoencoder
from detect.detectors.distance import KNN
from detect.detectors.mahalanobis import Mahalanobis
from detect.detectors.mixture import GMM
from detect.detectors.ocsvm import OneClassSVM
from detect.fitting import DetectorChoice, FitUnit, fit_and_score
from detect.scaled_detector import ScaledDetector

N_TRAIN, N_TEST = 1000, 1100
GOALS = {
    ("One-Class SVM", 768): 4.0,
    ("One-Class SVM", 2048): 7.0,
    ("Mahalanobis", 768): 10.0,
    ("Mahalanobis", 2048): 30.0,
    ("kNN", 768): 2.5,
    ("kNN", 2048): 2.5,
}

COLUMNS = {
    "stock ms": "stock, cpu ms",
    "ms": "here, cpu ms",
    "cpu": "over stock, cpu",
    "clock": "over stock, clock",
    "goal": "goal",
    "difference": "largest difference",
}

Array = np.ndarray
Variant = Callable[[Array, Array], Array]


def stock_mahalanobis(X: Array, Y: Array) -> Array:
    return LedoitWolf().fit(X).mahalanobis(Y)


def stock_knn(X: Array, Y: Array) -> Array:
    return NearestNeighbors(n_neighbors=5).fit(X).kneighbors(Y)[0].mean(axis=1)


def stock_ocsvm(X: Array, Y: Array) -> Array:
    return -StockOneClassSVM(nu=0.1).fit(X).score_samples(Y)


def stock_gmm(X: Array, Y: Array) -> Array:
    return -GaussianMixture(2, reg_covar=1e-3, random_state=0).fit(X).score_samples(Y)


PAIRS: list[tuple[str, Variant, Variant]] = [
    ("One-Class SVM", stock_ocsvm, lambda X, Y: -OneClassSVM(0.1).fit(X).score_samples(Y)),
    ("kNN", stock_knn, lambda X, Y: -KNN(k=5).fit(X).score_samples(Y)),
    ("Mahalanobis", stock_mahalanobis, lambda X, Y: Mahalanobis().fit(X).mahalanobis(Y)),
    ("GMM, 200 clips", stock_gmm, lambda X, Y: -GMM().fit(X).score_samples(Y)),
]


def small_mlp(dim: int) -> nn.Module:
    """Make the autoencoder that PyOD would: 64, 32."""
    return networks.MLP(dim, (64, 32))


def plain_loop(X: Array, epochs: int) -> None:
    """Train as a tutorial does: a loader, Adam, one batch at a time."""
    torch.manual_seed(0)
    network = small_mlp(X.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    clips = torch.utils.data.TensorDataset(torch.tensor(X, dtype=torch.float32))
    loader = torch.utils.data.DataLoader(clips, batch_size=32, shuffle=True)
    for _ in range(epochs):
        for (batch,) in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(network(batch), batch).backward()
            optimizer.step()


def pyod_autoencoder(X: Array, epochs: int) -> None:
    """Train PyOD's autoencoder as it comes: 64, 32, batches of 32, BatchNorm and dropout."""
    from pyod.models.auto_encoder import AutoEncoder

    AutoEncoder(epoch_num=epochs, hidden_neuron_list=[64, 32], verbose=0).fit(X)


def autoencoder(dim: int, epochs: int, rounds: int) -> list[str]:
    """Time the autoencoder of one machine ID: PyOD's, a tutorial's and ours."""
    X = embeddings(N_TRAIN, dim, np.random.default_rng(0))
    variants: dict[str, Callable[[], object]] = {
        "ours": lambda: Autoencoder(small_mlp, epochs=epochs).fit(X),
        "plain": lambda: plain_loop(X, epochs),
    }
    if find_spec("pyod"):
        variants["pyod"] = lambda: pyod_autoencoder(X, epochs)
    times = dict(zip(variants, interleaved(list(variants.values()), rounds), strict=True))
    cells = [
        f"{times[name].cpu / epochs:.1f}" if name in times else "not installed"
        for name in ("pyod", "plain", "ours")
    ]
    ratios = [
        times[name].over(times["ours"]) if name in times else "" for name in ("pyod", "plain")
    ]
    return [str(dim), *cells, *ratios]


def embeddings(n: int, dim: int, rng: np.random.Generator) -> Array:
    """Draw vectors that vary in 64 directions mostly, as embeddings do; centred."""
    mixing = np.random.default_rng(dim).normal(size=(64, dim)) / 8
    return rng.normal(size=(n, 64)) @ mixing + 0.3 * rng.normal(size=(n, dim))


@dataclass(frozen=True)
class Spent:
    """Milliseconds by the clock and of the processor."""

    wall: float
    cpu: float

    def over(self, other: Spent) -> str:
        """How many times as long as the other, both ways."""
        return f"{self.wall / other.wall:.1f}x {self.cpu / other.cpu:.1f}x"


def interleaved(variants: Sequence[Callable[[], object]], rounds: int) -> list[Spent]:
    """Time each variant: the median of the faster half of its rounds."""
    times: list[list[tuple[float, float]]] = [[] for _ in variants]
    for _ in range(rounds):
        for spent, variant in zip(times, variants, strict=True):
            wall, cpu = perf_counter(), process_time()
            variant()
            spent.append((1000 * (perf_counter() - wall), 1000 * (process_time() - cpu)))

    def faster_half(values: Sequence[float]) -> float:
        return float(np.median(sorted(values)[: (len(values) + 1) // 2]))

    return [Spent(*(faster_half(of) for of in zip(*spent, strict=True))) for spent in times]


def compare_with_stock(rounds: int, dims: Sequence[int]) -> list[dict]:
    """Fit and rate one machine with every detector that has a stock reference; rows of a record."""
    rng = np.random.default_rng(0)
    rows = []
    for dim in dims:
        X, Y = embeddings(N_TRAIN, dim, rng), embeddings(N_TEST, dim, rng)
        for name, stock, ours in PAIRS:
            training = X[:200] if "200" in name else X
            if "GMM" in name and dim > 768:
                continue
            expected, found = stock(training, Y), ours(training, Y)
            slow = name in ("Mahalanobis", "GMM, 200 clips")
            stock_time, our_time = interleaved(
                [lambda s=stock, X=training, Y=Y: s(X, Y), lambda o=ours, X=training, Y=Y: o(X, Y)],
                max(3, rounds // 3) if slow else rounds,
            )
            ratios = {
                "cpu": stock_time.cpu / our_time.cpu,
                "clock": stock_time.wall / our_time.wall,
            }
            rows.append(
                {
                    "name": f"{name}, {dim}-d",
                    "stock ms": stock_time.cpu,
                    "ms": our_time.cpu,
                    "ratios": ratios,
                    "goal": GOALS.get((name, dim)),
                    "difference": float(np.max(np.abs(found - expected) / np.abs(expected))),
                }
            )
    return rows


def compare_autoencoders(rounds: int, dims: Sequence[int]) -> Table:
    """Train the network of one machine."""
    table = Table(
        title="\nautoencoder 64-32, 1,000 clips: processor ms an epoch; ratios by clock, processor",
        title_justify="left",
        box=None,
    )
    for heading in ("dim", "PyOD", "plain", "ours", "PyOD / ours", "plain / ours"):
        table.add_column(heading, justify="right")
    for dim in dims:
        table.add_row(*autoencoder(dim, epochs=5, rounds=rounds))
    return table


def refitted(name: str, X: Array, folds: Array) -> Array:
    """Rate each clip by a fit without its fold."""
    scores = np.empty(len(X))
    for number in np.unique(folds):
        held = folds == number
        fitted = make_detector(name, flagged_share=None).fit(X[~held])
        scores[held] = fitted.score_samples(X[held])
    return scores


def compare_folds(rounds: int, dims: Sequence[int]) -> Table:
    """Time scores out of ten folds beside one fit and the rating of as many clips."""
    rng = np.random.default_rng(0)
    table = Table(
        title="\nscores out of 10 folds, scaler included: processor ms",
        title_justify="left",
        box=None,
    )
    headings = ("detector", "clips", "dim", "fit", "fit + rate", "refits", "at once", "difference")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "detector" else "right")
    for name in ("mahalanobis", "knn"):
        for n in (200, N_TRAIN):
            for dim in dims:
                X, others = embeddings(n, dim, rng), embeddings(n, dim, rng)
                folds = rng.permutation(n) % 10

                def fresh(name: str = name) -> ScaledDetector:
                    return make_detector(name, flagged_share=None)

                at_once = scores_out_of_fold(fresh(), X, folds)
                variants: list[Callable[[], object]] = [
                    lambda X=X, fresh=fresh: fresh().fit(X),
                    lambda X=X, Y=others, fresh=fresh: fresh().fit(X).score_samples(Y),
                    lambda X=X, folds=folds, name=name: refitted(name, X, folds),
                ]
                difference = ""
                if at_once is not None:
                    variants.append(
                        lambda X=X, folds=folds, fresh=fresh: scores_out_of_fold(fresh(), X, folds)
                    )
                    expected = refitted(name, X, folds)
                    difference = f"{np.max(np.abs(at_once / expected - 1)):.0e}"
                cells = [f"{spent.cpu:.1f}" for spent in interleaved(variants, rounds)]
                row = [name, str(n), str(dim), *cells, *[""] * (4 - len(cells)), difference]
                table.add_row(*row)
    return table


def many_ids(n_ids: int, n_clips: int, dim: int, workers: int) -> Table:
    """Fit each of so many machine IDs to its clips and rate a quarter as many others."""
    n_test = n_clips // 4
    row_of = {str(i): i for i in range(n_clips + n_test)}
    keys = tuple(row_of)
    choices = [DetectorChoice(name) for name in ("mahalanobis", "gmm", "knn")]

    def seconds_of(machine: int) -> list[float]:
        """Measure the processor's seconds for each detector."""
        machine_id = f"id_{machine:04d}"
        ids = (machine_id,)
        vectors = embeddings(len(keys), dim, np.random.default_rng(machine)).astype(np.float32)
        unit = FitUnit(
            "fan", machine_id, keys[:n_clips], ids * n_clips, keys[n_clips:], ids * n_test
        )
        clock = [process_time()]
        for choice in choices:
            fit_and_score(unit, lambda chosen: vectors[[row_of[key] for key in chosen]], choice)
            clock.append(process_time())
        return list(np.diff(clock))

    start = perf_counter()
    totals = np.sum(
        Parallel(workers)(delayed(seconds_of)(machine) for machine in range(n_ids)), axis=0
    )
    wall = perf_counter() - start
    table = Table(
        title=f"{n_ids} machine IDs, fitted to {n_clips} clips x {dim}, {n_test} others rated, "
        f"{workers} workers: seconds",
        title_justify="left",
        box=None,
    )
    table.add_column("")
    table.add_column("", justify="right")
    for choice, seconds in zip(choices, totals, strict=True):
        table.add_row(f"{choice.name}, processor", f"{seconds:.1f}")
    table.add_row("all three, processor", f"{totals.sum():.1f}")
    table.add_row("all three and drawing the vectors, by the clock", f"{wall:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="one width of each")
    parser.add_argument("--only", choices=("vectors", "autoencoders", "folds"))
    parser.add_argument("--many-ids", action="store_true", help="1,000 machine IDs, nothing else")
    parser.add_argument("--json", type=Path, help="folder to write a record of the vectors to")
    arguments = parser.parse_args()
    console = Console(width=120)
    if arguments.many_ids:
        console.print(many_ids(1000, 200, 768, workers=2))
        return
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        wide = (768,) if arguments.quick else (768, 2048)
        narrow = (128,) if arguments.quick else (128, 768)
        if arguments.only in (None, "vectors"):
            rows = compare_with_stock(arguments.rounds, wide)
            note = f"{arguments.rounds} rounds, {arguments.threads} threads of BLAS and torch"
            record = make_record("detectors", COLUMNS, rows, note)
            print(f"fit to 1,000 clips and score 1,100\n\n{table(record)}")
            if arguments.json:
                save(record, arguments.json)
        if arguments.only in (None, "folds"):
            console.print(compare_folds(max(3, arguments.rounds // 2), (*narrow, 2048)))
        if arguments.only in (None, "autoencoders"):
            console.print(compare_autoencoders(max(2, arguments.rounds // 3), narrow))


if __name__ == "__main__":
    main()
