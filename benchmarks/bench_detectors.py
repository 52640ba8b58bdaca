"""Our detectors beside their stock references: fit to 1,000 clips and score 1,100.

    python benchmarks/bench_detectors.py [--rounds 9] [--quick] [--cpu]

Variants take turns in one process. A busy neighbour slows single rounds, so that the median of
each variant's faster half is printed, and the ratio of these. `--cpu` counts processor time
instead, for a machine that is never quiet: set OMP_NUM_THREADS=1 with it. The difference is the
largest relative one over the 1,100 clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from time import perf_counter, process_time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM as StockOneClassSVM
from torch import nn

from detect import networks
from detect.autoencoder import Autoencoder
from detect.distance import KNN, Mahalanobis
from detect.ensemble import fit_together
from detect.mixture import GMM
from detect.ocsvm import OneClassSVM

N_TRAIN, N_TEST = 1000, 1100
GOALS = {
    ("One-Class SVM", 768): 4.0,
    ("One-Class SVM", 2048): 7.0,
    ("Mahalanobis", 768): 10.0,
    ("Mahalanobis", 2048): 30.0,
    ("kNN", 768): 2.5,
    ("kNN", 2048): 2.5,
}

Array = np.ndarray
Variant = Callable[[Array, Array], Array]


def stock_mahalanobis(X: Array, T: Array) -> Array:
    return LedoitWolf().fit(X).mahalanobis(T)


def stock_knn(X: Array, T: Array) -> Array:
    return NearestNeighbors(n_neighbors=5).fit(X).kneighbors(T)[0].mean(axis=1)


def stock_ocsvm(X: Array, T: Array) -> Array:
    return -StockOneClassSVM(nu=0.1).fit(X).score_samples(T)


def stock_gmm(X: Array, T: Array) -> Array:
    return -GaussianMixture(2, reg_covar=1e-3, random_state=0).fit(X).score_samples(T)


PAIRS: list[tuple[str, Variant, Variant]] = [
    ("One-Class SVM", stock_ocsvm, lambda X, T: -OneClassSVM(0.1).fit(X).score_samples(T)),
    ("kNN", stock_knn, lambda X, T: -KNN(k=5).fit(X).score_samples(T)),
    ("Mahalanobis", stock_mahalanobis, lambda X, T: Mahalanobis().fit(X).mahalanobis(T)),
    ("GMM, 200 clips", stock_gmm, lambda X, T: -GMM().fit(X).score_samples(T)),
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


def autoencoders(n_machines: int, dim: int, epochs: int, rounds: int) -> list[str]:
    """Time the autoencoders of so many machine IDs: plain, ours one by one, ours together."""
    rng = np.random.default_rng(0)
    data = [embeddings(N_TRAIN, dim, rng) for _ in range(n_machines)]

    def fresh() -> list[Autoencoder]:
        return [Autoencoder(small_mlp, epochs=epochs) for _ in data]

    plain, alone, together = interleaved(
        [
            lambda: [plain_loop(X, epochs) for X in data],
            lambda: [one.fit(X) for one, X in zip(fresh(), data, strict=True)],
            lambda: fit_together(fresh(), data),
        ],
        rounds,
    )
    cells = [f"{value / epochs:.0f}" for value in (plain, alone, together)]
    return [str(n_machines), str(dim), *cells, f"{plain / alone:.1f}x", f"{plain / together:.1f}x"]


def embeddings(n: int, dim: int, rng: np.random.Generator) -> Array:
    """Draw vectors that vary in 64 directions mostly, as embeddings do; centred."""
    mixing = np.random.default_rng(dim).normal(size=(64, dim)) / 8
    return rng.normal(size=(n, 64)) @ mixing + 0.3 * rng.normal(size=(n, dim))


clock = perf_counter


def interleaved(variants: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Milliseconds of each variant: the median of the faster half of its rounds."""
    times: list[list[float]] = [[] for _ in variants]
    for _ in range(rounds):
        for spent, variant in zip(times, variants, strict=True):
            start = clock()
            variant()
            spent.append(1000 * (clock() - start))
    return [float(np.median(sorted(spent)[: (len(spent) + 1) // 2])) for spent in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="768 dimensions only")
    parser.add_argument("--cpu", action="store_true", help="processor time, not wall time")
    arguments = parser.parse_args()
    global clock  # noqa: PLW0603  a benchmark has one clock
    clock = process_time if arguments.cpu else perf_counter
    rng = np.random.default_rng(0)
    table = Table(title="fit to 1,000 clips + score 1,100, ms", title_justify="left", box=None)
    for heading in ("detector", "dim", "stock", "ours", "ratio", "goal", "difference"):
        table.add_column(heading, justify="left" if heading == "detector" else "right")
    for dim in (768,) if arguments.quick else (768, 2048):
        X, T = embeddings(N_TRAIN, dim, rng), embeddings(N_TEST, dim, rng)
        for name, stock, ours in PAIRS:
            few = X[:200] if "200" in name else X
            if "GMM" in name and dim > 768:
                continue
            expected, found = stock(few, T), ours(few, T)
            difference = np.max(np.abs(found - expected) / np.abs(expected))
            slow = name in ("Mahalanobis", "GMM, 200 clips")
            rounds = max(3, arguments.rounds // 3) if slow else arguments.rounds
            theirs, own = interleaved(
                [lambda s=stock, X=few, T=T: s(X, T), lambda o=ours, X=few, T=T: o(X, T)], rounds
            )
            goal = GOALS.get((name, dim))
            table.add_row(
                name,
                str(dim),
                f"{theirs:.0f}",
                f"{own:.1f}",
                f"{theirs / own:.1f}x",
                f"{goal:g}x" if goal else "",
                f"{difference:.0e}",
            )
    Console().print(table)

    training = Table(
        title="\nautoencoders 64-32, 1,000 clips a machine, ms an epoch of all (goal: 4x plain)",
        title_justify="left",
        box=None,
    )
    for heading in ("machines", "dim", "plain", "ours alone", "together", "alone", "together"):
        training.add_column(heading, justify="right")
    for n_machines in (4, 16):
        for dim in (128,) if arguments.quick else (128, 768):
            training.add_row(*autoencoders(n_machines, dim, epochs=3, rounds=3))
    Console().print(training)


if __name__ == "__main__":
    main()
