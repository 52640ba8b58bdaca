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
    y = machine IDs, and scores with them too. `network`: the published network that it holds,
    frozen, and whose folder it expects as its option `weights`.
    """

    target: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    takes: Takes = "vectors"
    scale: bool = True
    needs_ids: bool = False
    network: str = ""

    def resolve(self) -> Any:
        module, name = self.target.split(":")
        return getattr(import_module(module), name)


DETECTORS: dict[str, Row] = {
    "mahalanobis": Row(
        "detect.detectors.distance:Mahalanobis",
        "distance from the mean under a Ledoit-Wolf covariance",
    ),
    "knn": Row("detect.detectors.distance:KNN", "mean distance to the k nearest training clips"),
    "ocsvm": Row(
        "detect.detectors.ocsvm:OneClassSVM",
        "One-Class SVM with RBF kernel",
        {"nu": 0.1, "gamma": "scale"},
    ),
    "gmm": Row("detect.detectors.mixture:GMM", "Gaussian mixture with full covariances"),
    "lof": Row("detect.detectors.distance:LOF", "local outlier factor against the training clips"),
    "iforest": Row("sklearn.ensemble:IsolationForest", "isolation forest"),
    "pca": Row("detect.detectors.subspace:PCAResidual", "distance from the principal subspace"),
    "twfr_gmm": Row(
        "detect.detectors.mixture:GMM",
        "Gaussian mixture rated by its nearest component, as TWFR-GMM; for --pooling gwrp",
        {"rate_by": "nearest"},
    ),
    "beam": Row(
        "detect.detectors.bands:BandKNN",
        "cosine distance to the nearest clip per frequency band",
        takes="bands",
        scale=False,
    ),
    "id_logistic": Row(
        "detect.detectors.id_classifier:IDClassifier",
        "logistic regression that tells machine IDs apart; needs two or more",
        {"network": "logistic"},
        needs_ids=True,
    ),
    "id_mlp": Row(
        "detect.detectors.id_classifier:IDClassifier",
        "small network that tells machine IDs apart; needs two or more",
        {"network": "mlp"},
        needs_ids=True,
    ),
    "id_mahalanobis": Row(
        "detect.detectors.id_classifier:IDClassifier",
        "distance from the own machine ID in that network's features; needs two or more IDs",
        {"network": "mlp", "rate_by": "mahalanobis"},
        needs_ids=True,
    ),
    "mlp": Row("detect.detectors.autoencoder:Autoencoder", "dense autoencoder", {"network": "mlp"}),
    "unet": Row(
        "detect.detectors.autoencoder:Autoencoder",
        "dense autoencoder with skips",
        {"network": "unet"},
    ),
    "official_ae": Row(
        "detect.detectors.stacked_frames:OfficialAE",
        "DCASE's baseline autoencoder of 5 stacked frames",
        takes="sequences",
    ),
    "official_mahalanobis": Row(
        "detect.detectors.stacked_frames:OfficialAE",
        "DCASE's baseline, Mahalanobis distance of what it gets wrong",
        {"rate_by": "mahalanobis"},
        takes="sequences",
    ),
    "frames_vae": Row(
        "detect.detectors.stacked_frames:FramesVAE",
        "variational autoencoder of 5 stacked frames",
        takes="sequences",
    ),
    "frames_vae_bn": Row(
        "detect.detectors.stacked_frames:FramesVAE",
        "the same with BatchNorm between its layers and on its output",
        {"batchnorm": True},
        takes="sequences",
    ),
    "mel_mlp_ae": Row(
        "detect.detectors.image_autoencoders:FlattenedAE",
        "deep dense autoencoder of the flattened spectrogram, 256 at its narrowest",
        {"hidden": (4096, 2048, 1024, 512, 256)},
        takes="sequences",
    ),
    "fc_ae": Row(
        "detect.detectors.image_autoencoders:FlattenedAE",
        "dense autoencoder of the flattened spectrogram, 64 at its narrowest",
        takes="sequences",
    ),
    "fc_vae": Row(
        "detect.detectors.image_autoencoders:FlattenedVAE",
        "dense variational autoencoder of the flattened spectrogram",
        takes="sequences",
    ),
    "conv_vae": Row(
        "detect.detectors.image_autoencoders:ConvVAE",
        "convolutional variational autoencoder of the spectrogram",
        takes="sequences",
    ),
    "mel_conv_ae": Row(
        "detect.detectors.image_autoencoders:StridedConvAE",
        "convolutional autoencoder with strides; scales to 0..1 itself",
        takes="sequences",
        scale=False,
    ),
    "conv_ae": Row(
        "detect.detectors.image_autoencoders:PooledConvAE",
        "convolutional autoencoder with max-pooling; scales to 0..1 itself",
        takes="sequences",
        scale=False,
    ),
    "cnn_svdd": Row(
        "detect.detectors.svdd:SVDDAutoencoder",
        "convolutional autoencoder, its latent map drawn to one centre (Deep SVDD)",
        takes="sequences",
    ),
    "cnn_svdd_l2": Row(
        "detect.detectors.svdd:SVDDAutoencoder",
        "the same with 0.002 times the sum of squared parameters in its loss",
        {"l2": 0.002},
        takes="sequences",
    ),
    "resnet50_cnn": Row(
        "detect.detectors.resnet_autoencoder:ResNetAutoencoder",
        "frozen ImageNet ResNet50 and a CNN decoder",
        takes="sequences",
        scale=False,
        network="resnet50",
    ),
    "lstm_predictor": Row(
        "detect.detectors.recurrent:LSTMPredictor",
        "LSTM that predicts the next frame from ten; scales to 0..1 itself",
        takes="sequences",
        scale=False,
    ),
    "gru_ae": Row(
        "detect.detectors.recurrent:GRUWindows",
        "GRU autoencoder of windows of ten frames; scales to 0..1 itself",
        takes="sequences",
        scale=False,
    ),
    "lstm_ae": Row(
        "detect.detectors.recurrent:LSTMClips",
        "LSTM autoencoder of whole clips, of any length",
        takes="sequences",
    ),
}


def detector_options(name: str) -> tuple[str, ...]:
    """Name the options that `make_detector(name, ...)` accepts."""
    from detect.options import option_names

    row = DETECTORS[name]
    fixed = {"network"} if "network" in row.options else set()
    return tuple(option for option in option_names(row.resolve()) if option not in fixed)


def trains_on_device(name: str) -> bool:
    """Say whether a detector holds networks that train on a device of choice."""
    from inspect import signature

    return "device" in signature(DETECTORS[name].resolve()).parameters


def check_detector(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for the first option that the detector has not, or that cannot be so."""
    from detect.options import check_options

    known = detector_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"detector {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
    check_options(DETECTORS[name].resolve(), options, name)


def make_detector(
    name: str, *, scaler: str = "standard", seed: int = 0, device: str = "", **options: Any
) -> Detector:
    """Build a fresh detector, its scaler in front of it.

    `scaler` is "standard", which leaves alone what the detector's row says is not scaled, or
    "none". `device` is where a network trains, the best there is by default. Unknown options and
    values that an option cannot have are a ValueError.
    """
    from inspect import signature

    from sklearn.pipeline import Pipeline

    from detect.scaler import ColumnScaler

    if scaler not in ("standard", "none"):
        raise ValueError(f"There is no scaler {scaler!r}; it is standard or none")
    check_detector(name, options)
    row = DETECTORS[name]
    cls = row.resolve()
    parameters = signature(cls).parameters
    of_the_run = {"random_state": seed, "device": device}
    options |= {name: value for name, value in of_the_run.items() if name in parameters}
    steps: list[tuple[str, Any]] = [(name, cls(**{**row.options, **options}))]
    if scaler == "standard" and row.scale:
        steps.insert(0, ("scaler", ColumnScaler()))
    return Pipeline(steps)  # type: ignore[no-any-return]
