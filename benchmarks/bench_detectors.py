"""Our detectors beside their stock references: fit to 1,000 clips and score 1,100.

    python benchmarks/bench_detectors.py [--rounds 9] [--threads 2] [--only vectors]
    python benchmarks/bench_detectors.py --many-ids

Variants take turns in one process. A busy neighbour slows single rounds, so that the median of
each variant's faster half is printed, by the clock and in processor time of all threads, and the
ratios of these. The difference is the largest relative one over the 1,100 clips. PyOD's
autoencoder is compared where PyOD is installed. `--many-ids` fits and rates 1,000 machine IDs.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter, process_time

import numpy as np
import torch
from detect.detectors.ensemble import fit_together
from joblib import Parallel, delayed
from rich.console import Console
from rich.table import Table
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM as StockOneClassSVM
from threadpoolctl import threadpool_limits
from torch import nn

from detect.detectors import networks
from detect.detectors.autoencoder import Autoencoder
from detect.detectors.distance import KNN, Mahalanobis
from detect.detectors.mixture import GMM
from detect.detectors.ocsvm import OneClassSVM
from detect.fitting import DetectorChoice, FitUnit, fit_and_score

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


def pyod_autoencoder(X: Array, epochs: int) -> None:
    """Train PyOD's autoencoder as it comes: 64, 32, batches of 32, BatchNorm and dropout."""
    from pyod.models.auto_encoder import AutoEncoder

    AutoEncoder(epoch_num=epochs, hidden_neuron_list=[64, 32], verbose=0).fit(X)


def autoencoders(n_machines: int, dim: int, epochs: int, rounds: int) -> list[str]:
    """Time the autoencoders of so many machine IDs: stock, ours one by one, ours together."""
    rng = np.random.default_rng(0)
    data = [embeddings(N_TRAIN, dim, rng) for _ in range(n_machines)]

    def fresh() -> list[Autoencoder]:
        return [Autoencoder(small_mlp, epochs=epochs) for _ in data]

    variants: dict[str, Callable[[], object]] = {
        "together": lambda: fit_together(fresh(), data),
        "alone": lambda: [one.fit(X) for one, X in zip(fresh(), data, strict=True)],
        "plain": lambda: [plain_loop(X, epochs) for X in data],
    }
    if find_spec("pyod"):
        variants["pyod"] = lambda: [pyod_autoencoder(X, epochs) for X in data]
    times = dict(zip(variants, interleaved(list(variants.values()), rounds), strict=True))
    together = times["together"]
    cells = [
        f"{times[name].cpu / epochs:.0f}" if name in times else "not installed"
        for name in ("pyod", "plain", "alone", "together")
    ]
    ratios = [
        times[name].over(together) if name in times else "" for name in ("pyod", "plain", "alone")
    ]
    return [str(n_machines), str(dim), *cells, *ratios]


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


def compare_with_stock(rounds: int, dims: Sequence[int]) -> Table:
    """Fit and rate one machine with every detector that has a stock reference."""
    rng = np.random.default_rng(0)
    table = Table(
        title="fit to 1,000 clips + score 1,100: ms of the processor; ratios by clock, processor",
        title_justify="left",
        box=None,
    )
    for heading in ("detector", "dim", "stock", "ours", "ratios", "goal", "difference"):
        table.add_column(heading, justify="left" if heading == "detector" else "right")
    for dim in dims:
        X, T = embeddings(N_TRAIN, dim, rng), embeddings(N_TEST, dim, rng)
        for name, stock, ours in PAIRS:
            few = X[:200] if "200" in name else X
            if "GMM" in name and dim > 768:
                continue
            expected, found = stock(few, T), ours(few, T)
            difference = np.max(np.abs(found - expected) / np.abs(expected))
            slow = name in ("Mahalanobis", "GMM, 200 clips")
            theirs, own = interleaved(
                [lambda s=stock, X=few, T=T: s(X, T), lambda o=ours, X=few, T=T: o(X, T)],
                max(3, rounds // 3) if slow else rounds,
            )
            goal = GOALS.get((name, dim))
            table.add_row(
                name,
                str(dim),
                f"{theirs.cpu:.0f}",
                f"{own.cpu:.1f}",
                theirs.over(own),
                f"{goal:g}x" if goal else "",
                f"{difference:.0e}",
            )
    return table


def compare_autoencoders(rounds: int, dims: Sequence[int]) -> Table:
    """Train the networks of 4 and 16 machines."""
    table = Table(
        title="\nautoencoders 64-32, 1,000 clips a machine: processor ms an epoch of all; "
        "ratios over ours together by clock, processor (goal: 4x plain, 8x PyOD)",
        title_justify="left",
        box=None,
    )
    headings = ("machines", "dim", "PyOD", "plain", "alone", "together")
    for heading in (*headings, "PyOD / together", "plain / together", "alone / together"):
        table.add_column(heading, justify="right")
    for n_machines in (4, 16):
        for dim in dims:
            table.add_row(*autoencoders(n_machines, dim, epochs=5, rounds=rounds))
    return table


def many_ids(n_ids: int, n_clips: int, dim: int, workers: int) -> Table:
    """Fit each of so many machine IDs to its clips and rate a quarter as many others."""
    n_test = n_clips // 4
    row_of = {str(i): i for i in range(n_clips + n_test)}
    keys = tuple(row_of)
    choices = [DetectorChoice(name) for name in ("mahalanobis", "gmm", "knn")]

    def one(machine: int) -> list[float]:
        """Seconds of the processor for each detector."""
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
    of_each = np.sum(Parallel(workers)(delayed(one)(machine) for machine in range(n_ids)), axis=0)
    wall = perf_counter() - start
    table = Table(
        title=f"{n_ids} machine IDs, fitted to {n_clips} clips x {dim}, {n_test} others rated, "
        f"{workers} workers: seconds",
        title_justify="left",
        box=None,
    )
    table.add_column("")
    table.add_column("", justify="right")
    for choice, seconds in zip(choices, of_each, strict=True):
        table.add_row(f"{choice.name}, processor", f"{seconds:.1f}")
    table.add_row("all three, processor", f"{of_each.sum():.1f}")
    table.add_row("all three and drawing the vectors, by the clock", f"{wall:.1f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="768 dimensions only")
    parser.add_argument("--only", choices=("vectors", "autoencoders"))
    parser.add_argument("--many-ids", action="store_true", help="1,000 machine IDs, nothing else")
    arguments = parser.parse_args()
    console = Console(width=120)
    if arguments.many_ids:
        console.print(many_ids(1000, 200, 768, workers=2))
        return
    torch.set_num_threads(arguments.threads)
    with threadpool_limits(arguments.threads):
        if arguments.only != "autoencoders":
            dims = (768,) if arguments.quick else (768, 2048)
            console.print(compare_with_stock(arguments.rounds, dims))
        if arguments.only != "vectors":
            dims = (768,) if arguments.quick else (128, 768)
            console.print(compare_autoencoders(max(2, arguments.rounds // 3), dims))


if __name__ == "__main__":
    main()
