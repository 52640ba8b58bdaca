"""Vectors become anomaly scores, scores become AUC: fit on normals, rate the rest.

This page is the menu. Adding a detector is one file (none, if scikit-learn has it) and one row
in `DETECTORS`; what a detector takes and needs stands on its class (`detect.detector`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ground.registry import Row, find_row

if TYPE_CHECKING:
    from detect.detector import DetectorFacts
    from detect.scaled_detector import ScaledDetector

FLAGGED_SHARE = 0.05
"""Share of the training clips that `predict` calls anomalous, unless another is chosen."""

DETECTORS: dict[str, Row] = {
    "mahalanobis": Row(
        "detect.detectors.mahalanobis:Mahalanobis",
        "distance from the mean under a Ledoit-Wolf covariance",
    ),
    "mahalanobis_shared": Row(
        "detect.detectors.mahalanobis:SharedMahalanobis",
        "the same, its covariance shared among the machine IDs of a type where that fits better",
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
    ),
    "id_logistic": Row(
        "detect.detectors.id_classifier:IDClassifier",
        "logistic regression that tells machine IDs apart; needs two or more",
        {"network": "logistic"},
    ),
    "id_mlp": Row(
        "detect.detectors.id_classifier:IDClassifier",
        "small network that tells machine IDs apart; needs two or more",
        {"network": "mlp"},
    ),
    "id_mahalanobis": Row(
        "detect.detectors.id_classifier:IDClassifier",
        "distance from the own machine ID in that network's features; needs two or more IDs",
        {"network": "mlp", "rate_by": "mahalanobis"},
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
    ),
    "official_mahalanobis": Row(
        "detect.detectors.stacked_frames:OfficialAE",
        "DCASE's baseline, Mahalanobis distance of what it gets wrong",
        {"rate_by": "mahalanobis"},
    ),
    "frames_vae": Row(
        "detect.detectors.stacked_frames:FramesVAE",
        "variational autoencoder of 5 stacked frames",
    ),
    "frames_vae_bn": Row(
        "detect.detectors.stacked_frames:FramesVAE",
        "the same with BatchNorm between its layers and on its output",
        {"batchnorm": True},
    ),
    "mel_mlp_ae": Row(
        "detect.detectors.image_autoencoders:FlattenedAE",
        "deep dense autoencoder of the flattened spectrogram, 256 at its narrowest",
        {"hidden": (4096, 2048, 1024, 512, 256)},
    ),
    "fc_ae": Row(
        "detect.detectors.image_autoencoders:FlattenedAE",
        "dense autoencoder of the flattened spectrogram, 64 at its narrowest",
    ),
    "fc_vae": Row(
        "detect.detectors.image_autoencoders:FlattenedVAE",
        "dense variational autoencoder of the flattened spectrogram",
    ),
    "conv_vae": Row(
        "detect.detectors.image_autoencoders:ConvVAE",
        "convolutional variational autoencoder of the spectrogram",
    ),
    "mel_conv_ae": Row(
        "detect.detectors.image_autoencoders:StridedConvAE",
        "convolutional autoencoder with strides; scales to 0..1 itself",
    ),
    "conv_ae": Row(
        "detect.detectors.image_autoencoders:PooledConvAE",
        "convolutional autoencoder with max-pooling; scales to 0..1 itself",
    ),
    "cnn_svdd": Row(
        "detect.detectors.svdd:SVDDAutoencoder",
        "convolutional autoencoder, its latent map drawn to one centre (Deep SVDD)",
    ),
    "cnn_svdd_l2": Row(
        "detect.detectors.svdd:SVDDAutoencoder",
        "the same with 0.002 times the sum of squared parameters in its loss",
        {"l2": 0.002},
    ),
    "resnet50_cnn": Row(
        "detect.detectors.resnet_autoencoder:ResNetAutoencoder",
        "frozen ImageNet ResNet50 and a CNN decoder",
    ),
    "lstm_predictor": Row(
        "detect.detectors.recurrent:LSTMPredictor",
        "LSTM that predicts the next frame from ten; scales to 0..1 itself",
    ),
    "gru_ae": Row(
        "detect.detectors.recurrent:GRUWindows",
        "GRU autoencoder of windows of ten frames; scales to 0..1 itself",
    ),
    "lstm_ae": Row(
        "detect.detectors.recurrent:LSTMClips",
        "LSTM autoencoder of whole clips, of any length",
    ),
}


def facts_of(name: str) -> DetectorFacts:
    """Say what a detector takes and needs: `facts_of("unet").takes`.

    `name` is one of `DETECTORS` or `package.module:Class`; ValueError for another.
    """
    from detect.detector import facts_of_class

    return facts_of_class(find_row(name, DETECTORS, "detector").resolve())


def takes_seed(name: str) -> bool:
    """Whether a detector draws at random when it is fitted, so that seeds change its scores."""
    from ground.options import parameters_of

    return "random_state" in parameters_of(find_row(name, DETECTORS, "detector").resolve())


def detector_options(name: str) -> tuple[str, ...]:
    """Name the options that `make_detector(name, ...)` accepts."""
    from detect.detector import SET_BY_THE_RUN
    from ground.options import parameters_of

    row = find_row(name, DETECTORS, "detector")
    fixed = {*SET_BY_THE_RUN, *({"network"} & row.options.keys())}
    return tuple(option for option in parameters_of(row.resolve()) if option not in fixed)


def check_detector(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for the first option that a detector has not, or that cannot be so."""
    from ground.options import check_options

    known = detector_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"detector {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
    check_options(find_row(name, DETECTORS, "detector").resolve(), options, name)


def make_detector(
    name: str,
    *,
    scaler: str = "standard",
    seed: int = 0,
    device: str = "",
    flagged_share: float | None = FLAGGED_SHARE,
    **options: Any,
) -> ScaledDetector:
    """Build a fresh detector, its scaler in front of it: `make_detector("knn").fit(X).predict(Y)`.

    `name` is one of `DETECTORS` or `package.module:Class`, whose module is imported; such a class
    needs `fit(X)` and `score_samples(X)` only. `scaler` is "standard", which leaves alone what the
    class says is not scaled, or "none". `device` is where a network trains, the best there is by
    default. `flagged_share` is the share of training clips beyond the boundary of `predict`; None
    saves rating them. Unknown names and options, and values that an option cannot have, are a
    ValueError.
    """
    from detect.detector import facts_of_class
    from detect.scaled_detector import ScaledDetector
    from detect.scaler import ColumnScaler
    from ground.options import parameters_of

    if scaler not in ("standard", "none"):
        raise ValueError(f"There is no scaler {scaler!r}; it is standard or none")
    if flagged_share is not None and not 0 < flagged_share < 1:
        raise ValueError(f"flagged_share is between 0 and 1, or None; got {flagged_share!r}")
    check_detector(name, options)
    row = find_row(name, DETECTORS, "detector")
    cls = row.resolve()
    facts = facts_of_class(cls)
    of_the_run: dict[str, Any] = {"random_state": seed}
    if facts.trains_network:
        of_the_run["device"] = device
    known = parameters_of(cls)
    of_the_run = {option: value for option, value in of_the_run.items() if option in known}
    try:
        detector = cls(**{**row.options, **of_the_run, **options})
    except TypeError as error:  # a class from outside that needs more, or cannot be made at all
        raise ValueError(f"detector {name!r} cannot be made: {error}") from error
    for method in ("fit", "score_samples"):
        if not callable(getattr(detector, method, None)):
            raise ValueError(f"{name} is no detector: it has no method {method}")
    scaled = scaler == "standard" and facts.wants_scaling
    return ScaledDetector(detector, ColumnScaler() if scaled else None, flagged_share=flagged_share)
