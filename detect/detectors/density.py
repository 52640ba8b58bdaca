"""How sparse normal clips are around each of them, and one bank of them per domain.

What is near in a sparse region may be far in a dense one. Local density normalisation divides a
distance by the density around the neighbour (Wilkinghoff et al., arXiv:2509.10951); VarMin
subtracts the multiple of it that makes the training clips' own distances vary least (Matsumoto et
al., DCASE 2025). Recordings of two domains are far from each other for reasons that are no faults,
so each domain can have a bank of its own.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

Array = NDArray[np.float64]
Normalize = Literal["none", "ldn", "varmin"]

LEAST_DEVIATION = 1e-12


class Bank(Protocol):
    """A detector of one domain's clips, which can rate those clips themselves."""

    def fit(self, X: NDArray[Any]) -> Self: ...

    def score_samples(self, X: NDArray[Any]) -> Array: ...

    def own_distances(self) -> Array:
        """Rate each fitted clip (n,) by the others, as `score_samples` does but for the sign."""
        ...


def densities(distance: Array, index: NDArray[np.int64]) -> tuple[Array, float]:
    """Return the density of each training clip (n,), and VarMin's multiple of it.

    `distance` and `index` (n, k) are of each clip's nearest others, nearest first. The density is
    their mean distance b_i. With d the distance to the nearest other and b the density around it,
    the multiple is Cov(d, b) / Var(b), and 0 where all b are equal.
    """
    density = distance.mean(axis=1)
    spread = density[index[:, 0]]
    variance = spread.var()
    nearest = distance[:, 0]
    covariance = np.mean((nearest - nearest.mean()) * (spread - spread.mean()))
    return density, float(covariance / variance) if variance > 0 else 0.0


def weighted(distance: Array, density: Array, multiple: float, normalize: Normalize) -> Array:
    """Weigh distances to the training clips (n, n_train) by the density around each of these."""
    if normalize == "ldn":
        return distance / np.maximum(density, np.finfo(float).tiny)
    return distance - multiple * density if normalize == "varmin" else distance


def mean_of_smallest(distance: Array, k: int) -> Array:
    """Average the k smallest of each row."""
    return np.partition(distance, k - 1, axis=1)[:, :k].mean(axis=1)  # type: ignore[no-any-return]


def fit_banks(
    detector: Any, X: NDArray[Any], domains: NDArray[Any] | None
) -> tuple[list[Bank], Array]:
    """Fit a copy of a detector to the clips of each domain.

    Also returns mean and deviation of each bank's `own_distances`, (n_domains, 2). ValueError
    unless there are two domains or more.
    """
    names = sorted(set(domains.tolist())) if domains is not None else []
    if len(names) < 2:
        raise ValueError(
            "per_domain needs training clips of two domains, such as source and target; these "
            f"have {', '.join(filter(None, names)) or 'none'}"
        )
    banks: list[Bank] = []
    for name in names:
        bank = clone(detector).set_params(per_domain=False)
        try:
            banks.append(bank.fit(X[domains == name]))
            if (domains == name).sum() < 2:
                raise ValueError("one clip has no other to be compared with")
        except ValueError as error:
            raise ValueError(f"domain {name or 'without a name'}: {error}") from error
    own = [bank.own_distances() for bank in banks]
    return banks, np.array([[distance.mean(), distance.std()] for distance in own])


def rate_by_banks(banks: list[Bank], standards: Array, X: NDArray[Any]) -> Array:
    """Rate clips by the domain that they fit best, higher = more normal.

    Of each bank, the distance is standardised by those of its own clips; the smallest counts.
    """
    standardised = [
        (-bank.score_samples(X) - mean) / max(deviation, LEAST_DEVIATION)
        for bank, (mean, deviation) in zip(banks, standards, strict=True)
    ]
    return -np.min(standardised, axis=0)  # type: ignore[no-any-return]
