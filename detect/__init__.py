"""Vectors become anomaly scores, scores become AUC: fit on normals, rate the rest.

This page is the menu. Adding a detector is one file (none, if scikit-learn has it) and one row
in `DETECTORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from detect.detector import Detector

Takes = Literal["vectors", "sequences", "bands"]
"""(n, dim), (n, n_frames, dim) with NaN after a clip's end, or (n, n_bands, dim)."""


@dataclass(frozen=True)
class Row:
    """One entry of the registry: where the class is, what it is, what it takes and gets.

    `scale`: a ColumnScaler stands before it unless the user says otherwise. `needs_ids`: it
    learns to tell the machine IDs of a type apart, so it is fitted per type, with
    y = machine IDs, and scores with them too.
    """

    target: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    takes: Takes = "vectors"
    scale: bool = True
    needs_ids: bool = False

    def resolve(self) -> Any:
        module, name = self.target.split(":")
        return getattr(import_module(module), name)


DETECTORS: dict[str, Row] = {
    "mahalanobis": Row(
        "detect.distance:Mahalanobis", "distance from the mean under a Ledoit-Wolf covariance"
    ),
    "knn": Row("detect.distance:KNN", "mean distance to the k nearest training clips"),
    "ocsvm": Row(
        "detect.ocsvm:OneClassSVM", "One-Class SVM with RBF kernel", {"nu": 0.1, "gamma": "scale"}
    ),
    "gmm": Row("detect.mixture:GMM", "Gaussian mixture with full covariances"),
    "lof": Row("detect.distance:LOF", "local outlier factor against the training clips"),
    "iforest": Row("sklearn.ensemble:IsolationForest", "isolation forest"),
    "mlp": Row("detect.autoencoder:Autoencoder", "dense autoencoder", {"network": "mlp"}),
    "unet": Row(
        "detect.autoencoder:Autoencoder", "dense autoencoder with skips", {"network": "unet"}
    ),
}


def detector_options(name: str) -> tuple[str, ...]:
    """Name the options that `make_detector(name, ...)` accepts."""
    from inspect import signature

    fixed = {"network"} if "network" in DETECTORS[name].options else set()
    not_options = {"self", "random_state", "on_epoch", "novelty", *fixed}
    names = signature(DETECTORS[name].resolve().__init__).parameters
    return tuple(option for option in names if option not in not_options)


def make_detector(
    name: str, *, scaler: str | None = None, seed: int = 0, **options: Any
) -> Detector:
    """Build a fresh detector, its scaler in front of it.

    `scaler` is "standard" or "none"; None means what the detector's row says. Unknown options
    are a ValueError.
    """
    from inspect import signature

    from sklearn.pipeline import Pipeline

    from detect.scaler import ColumnScaler

    if scaler not in ("standard", "none", None):
        raise ValueError(f"There is no scaler {scaler!r}; it is standard or none")
    row = DETECTORS[name]
    known = detector_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"detector {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
    cls = row.resolve()
    if "random_state" in signature(cls.__init__).parameters:
        options["random_state"] = seed
    steps: list[tuple[str, Any]] = [(name, cls(**{**row.options, **options}))]
    if scaler == "standard" or (scaler is None and row.scale):
        steps.insert(0, ("scaler", ColumnScaler()))
    return Pipeline(steps)  # type: ignore[no-any-return]
