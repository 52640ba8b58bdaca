"""What a detector is, what its class says about it, and the one place where the sign turns.

A detector has `fit(X)` on normal clips and `score_samples(X)`, higher = more normal, as
scikit-learn's outlier detectors have. What the rest of the project needs to know besides stands
on its class: `DetectorFacts` lists it, with the defaults for classes that say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

Takes = Literal["vectors", "sequences", "bands"]
"""(n, dim), (n, n_frames, dim) with NaN after a clip's end, or (n, n_bands, dim)."""

SET_BY_THE_RUN = frozenset({"random_state", "device", "on_epoch"})
"""Parameters of a detector that `make_detector` or the fit sets; users do not."""


class Detector(Protocol):
    """Learns from normal clips, rates others; scikit-learn's outlier detectors are some."""

    def fit(self, X: NDArray[Any], y: Any = None) -> Self: ...

    def score_samples(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Rate each clip; higher means more normal."""
        ...


@dataclass(frozen=True)
class DetectorFacts:
    """What the class of a detector says about it; each field is a class attribute of that name.

    A class states only what differs from these defaults, so that classes of scikit-learn and
    other people's need not know of them.
    """

    takes: Takes = "vectors"
    wants_scaling: bool = True
    """A ColumnScaler stands before it unless the user says otherwise."""
    needs_ids: bool = False
    """It is fitted per machine type with y = machine IDs (n,), and the clips' machine IDs are the
    second argument of `score_samples(X, ids)`."""
    takes_domains: bool = False
    """`fit(X, y, domains)` takes the domains of the training clips (n,), or None."""
    trains_network: bool = False
    """It is a `NetworkDetector`."""
    reconstructs: bool = False
    """It is a `Reconstructor`."""
    published_network: str = ""
    """The published network that it holds frozen: its option `weights` is that network's folder,
    and it is a `PublishedNetworkHolder`."""
    has_fast_folds: bool = False
    """It has `scores_out_of_fold(X, folds, scaler)`, which equals a refit per fold and is faster:
    X (n, dim) unscaled, folds (n,) the number of each clip's fold, `scaler` an unfitted scaler
    that is fitted anew for each fold, or None; it returns the scores (n,), higher = more normal,
    or None where its options have no such way."""


def facts_of_class(cls: type) -> DetectorFacts:
    """Read what a class says about itself; defaults for what it does not say."""
    facts: dict[str, Any] = {f.name: getattr(cls, f.name, f.default) for f in fields(DetectorFacts)}
    return DetectorFacts(**facts)


class OwnDetector:
    """Base of this project's detectors: the annotations of `__init__` say which values are valid.

    `fit` begins with `check_options`, so that a class used by itself refuses them too.
    """

    @property
    def warning(self) -> str:
        """Say what a reader of its figures must know; "" where there is nothing."""
        return ""

    def check_options(self) -> None:
        """Raise ValueError for the first option that has a value it cannot have."""
        from ground.options import check_options

        parameters = self.get_params(deep=False)  # type: ignore[attr-defined]
        options = {k: v for k, v in parameters.items() if k not in SET_BY_THE_RUN}
        check_options(type(self), options)


class NetworkDetector(OwnDetector):
    """A detector that trains a torch network.

    Parameters: `epochs` is the most passes, `device` where it trains ("" is the best there is),
    `on_epoch` is called with every epoch, `random_state` seeds all draws. `fit` sets `history_`, a
    list of `detect.detectors.training.Epoch`.
    """

    trains_network: ClassVar[bool] = True

    if TYPE_CHECKING:
        epochs: int
        device: str
        on_epoch: Callable[[Any], None] | None
        history_: list[Any]

    def blank_networks(self) -> dict[str, nn.Module]:
        """Build untrained networks of the fitted shape, by the attribute that holds each.

        `detect.saving` stores the weights of these and fills them again.
        """
        raise NotImplementedError


class PublishedNetworkHolder(Protocol):
    """A detector with a frozen published network, which a saved detector refers to by its hash."""

    weights: str
    """The network's folder, or "random" for a trial."""
    weights_sha256_: str
    """Of the weights' file in that folder; "" where they are random. Set by `fit`."""

    def attach_network(self, folder: str) -> None:
        """Load the network from `folder` again, into an attribute that `blank_networks` omits.

        ValueError where the folder does not hold the weights of the fit.
        """
        ...


class Reconstructor(Protocol):
    """A detector that rates a clip by what its network rebuilds, or predicts, wrongly.

    X are vectors (n, dim) or sequences (n, n_frames, dim), scaled as `fit` got them.
    """

    normal_error_: NDArray[np.float64]
    """Mean squared error of the training clips in each number, (dim,), set by `fit`."""

    def reconstruct(self, X: NDArray[Any]) -> NDArray[Any]:
        """Rebuild clips, in the shape and units of X; NaN where the network does not look."""
        ...

    def squared_errors(self, X: NDArray[Any]) -> NDArray[Any]:
        """Square what is rebuilt wrongly, in the units of the score and the shape of X."""
        ...


def anomaly_scores(
    detector: Detector, X: NDArray[Any], ids: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Rate each clip; higher means more anomalous. The only place the sign turns.

    `ids` are the clips' machine IDs (n,), for detectors that need them.
    """
    if ids is None:
        return -np.asarray(detector.score_samples(X), dtype=np.float64)
    scores = detector.score_samples(X, np.array(ids))  # type: ignore[call-arg]
    return -np.asarray(scores, dtype=np.float64)


def scores_out_of_fold(
    detector: Detector, X: NDArray[Any], folds: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Rate every clip X (n, dim) by a fit without its fold, scaler included, without refitting.

    Returns what a refit per fold would give, to 1e-8, higher = more normal; or None where the
    detector has no such way and refitting is needed. `folds` (n,) has at least two numbers.
    `detector` comes from `make_detector` and is left as it is.
    """
    inner = last_step(detector)
    if not facts_of_class(type(inner)).has_fast_folds:
        return None
    scaler = getattr(detector, "scaler", None)
    return inner.scores_out_of_fold(X, folds, scaler)  # type: ignore[no-any-return]


def rate_as_own_id(
    scores: NDArray[np.float64], classes: NDArray[Any], ids: NDArray[Any] | None
) -> NDArray[np.float64]:
    """Pick each clip's score as a clip of its own machine ID, or the highest without `ids`.

    `scores` is (n, n_ids), `classes` the sorted machine IDs of its columns, `ids` (n,). ValueError
    for an ID that is none of them.
    """
    if ids is None:
        return scores.max(axis=1)  # type: ignore[no-any-return]
    unknown = set(ids) - set(classes)
    if unknown:
        raise ValueError(
            f"{min(unknown)} is none of the machine IDs fitted: {', '.join(map(str, classes))}"
        )
    return scores[np.arange(len(scores)), np.searchsorted(classes, ids)]


def last_step(detector: Any) -> Any:
    """Return the detector behind the scaler, or the detector itself where it has no scaler."""
    return getattr(detector, "detector", detector)


def history_of(detector: Any) -> tuple[Any, ...]:
    """Losses per epoch of a fitted detector; empty where no network was trained."""
    return tuple(getattr(last_step(detector), "history_", None) or ())


def warning_of(detector: Any) -> str:
    """Say what a reader of a fitted detector's figures must know; mostly ""."""
    return str(getattr(last_step(detector), "warning", ""))
