"""The systems of the reports and of the field, each one command: `--system NAME`.

A preset names an encoder, a pooling, a detector and their options together; it crosses the rooms,
so it stands in this room. What each report claims, and what was checked here, is in
docs/systems.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class System:
    """A preset of flags; flags given beside `--system` win."""

    about: str
    encoder: str = ""
    pooling: str = ""
    detector: str = ""
    set: tuple[str, ...] = ()
    fit_per: Literal["id", "type"] = "type"
    """What most of the reports did: one model over all IDs."""
    fuse: tuple[str, ...] = ()
    """Members encoder/pooling/detector, in place of the three."""
    scaler: Literal["standard", "none"] = "standard"


RDP_AND_VARMIN = (
    *("bands.over_time=rdp", "bands.gamma=4"),
    *("beam.normalize=varmin", "beam.density_k=4"),
)

SYSTEMS: dict[str, System] = {
    "auto": System(
        "the default: four views without weights, fused",
        set=("fluctuation.groups=16",),
        fit_per="id",
        fuse=(
            "logmel/fluctuation/mahalanobis",
            "logmel/quiet/mahalanobis",
            "spectrum/clip/mahalanobis",
            "wave/clip/mahalanobis",
        ),
    ),
    # On frozen pretrained embeddings
    "ast-unet": System("AST's first token, dense autoencoder with skips", "ast", "cls", "unet"),
    "ast-mlp": System("AST's first token, dense autoencoder 768-256-768", "ast", "cls", "mlp"),
    "panns-unet": System(
        "PANNs' clip vector, dense autoencoder with skips", "panns", "clip", "unet"
    ),
    "panns-mlp": System(
        "PANNs' clip vector, dense autoencoder 2048-1024-512-256 and back", "panns", "clip", "mlp"
    ),
    "panns-mahalanobis": System(
        "PANNs' clip vector, Mahalanobis distance", "panns", "clip", "mahalanobis"
    ),
    "vggish-ocsvm": System("VGGish's frames in a row, One-Class SVM", "vggish", "flatten", "ocsvm"),
    "vggish-mahalanobis": System(
        "VGGish's frames averaged, Mahalanobis distance", "vggish", "mean", "mahalanobis"
    ),
    "wav2vec2-mlp": System(
        "wav2vec 2.0 averaged over time, dense autoencoder 768-256-768", "wav2vec2", "mean", "mlp"
    ),
    "wav2vec2-lstm-ae": System(
        "wav2vec 2.0 frames, LSTM autoencoder", "wav2vec2", "frames", "lstm_ae"
    ),
    "resnet50-cnn": System(
        "log-mel as a picture, frozen ImageNet ResNet50, CNN decoder",
        "logmel",
        "frames",
        "resnet50_cnn",
    ),
    # On log-mel frames
    "mel-mlp-ae": System(
        "first 128 frames x 64 mel, dense autoencoder 8192-4096-...-256 and back",
        "logmel",
        "frames",
        "mel_mlp_ae",
        set=(
            "logmel.n_mels=64",
            "mel_mlp_ae.n_frames=128",
        ),
    ),
    "fc-ae": System(
        "flattened log-mel, dense autoencoder 512-256-64 and back", "logmel", "frames", "fc_ae"
    ),
    "fc-vae": System(
        "flattened log-mel, dense variational autoencoder, 8 latent numbers",
        "logmel",
        "frames",
        "fc_vae",
    ),
    "conv-vae": System(
        "log-mel, convolutional variational autoencoder, 8 latent numbers",
        "logmel",
        "frames",
        "conv_vae",
    ),
    "mel-conv-ae": System(
        "first 128 frames x 64 mel, convolutional autoencoder with strides",
        "logmel",
        "frames",
        "mel_conv_ae",
        set=(
            "logmel.n_mels=64",
            "mel_conv_ae.n_frames=128",
        ),
    ),
    "conv-ae": System(
        "log-mel, convolutional autoencoder with BatchNorm and max-pooling",
        "logmel",
        "frames",
        "conv_ae",
    ),
    "frames-vae": System(
        "5 stacked log-mel frames, variational autoencoder 640-400-400-20",
        "logmel",
        "frames",
        "frames_vae",
    ),
    "frames-vae-bn": System("the same with BatchNorm", "logmel", "frames", "frames_vae_bn"),
    "cnn-svdd": System(
        "log-mel, convolutional autoencoder with a Deep SVDD objective",
        "logmel",
        "frames",
        "cnn_svdd",
    ),
    "cnn-svdd-l2": System("the same with L2 regularisation", "logmel", "frames", "cnn_svdd_l2"),
    "cnn-svdd-mfcc": System("the same network on MFCC, without L2", "mfcc", "frames", "cnn_svdd"),
    "lstm-predictor": System(
        "log-mel, LSTM that predicts the next frame from ten", "logmel", "frames", "lstm_predictor"
    ),
    "gru-ae": System(
        "log-mel, GRU autoencoder of windows of ten frames", "logmel", "frames", "gru_ae"
    ),
    # Beyond the reports
    "official-ae": System(
        "DCASE's baseline autoencoder of 5 stacked frames", "logmel", "frames", "official_ae"
    ),
    "official-mahalanobis": System(
        "DCASE's baseline, Mahalanobis distance of its residuals",
        "logmel",
        "frames",
        "official_mahalanobis",
    ),
    "twfr-gmm": System(
        "log-mel ranked over time per band, Gaussian mixture per ID",
        "logmel",
        "gwrp",
        "twfr_gmm",
        set=("gwrp.r=0.88",),
        fit_per="id",
    ),
    "ast-beam": System(
        "AST's map per frequency band, cosine distance to the nearest clip",
        "ast",
        "bands",
        "beam",
        fit_per="id",
    ),
    "beats-knn": System(
        "BEATs' map averaged over time, the nearest clip by cosine",
        "beats",
        "clip",
        "knn",
        set=("beats.layer=12", "knn.k=1", "knn.metric=cosine"),
        fit_per="id",
        scaler="none",
    ),
    "beats-beam": System(
        "BEATs' map, moving frames weigh more, cosine distance per band less its density",
        "beats",
        "bands",
        "beam",
        set=("beats.variant=iter3", *RDP_AND_VARMIN),
        fit_per="id",
    ),
    "eat-knn": System(
        "EAT's map averaged over time, the nearest clip by cosine",
        "eat",
        "clip",
        "knn",
        set=("eat.layer=12", "knn.k=1", "knn.metric=cosine"),
        fit_per="id",
        scaler="none",
    ),
    "beats-eat": System(
        "BEATs and EAT as in beats-beam, fused by rank",
        set=("beats.variant=iter3", *RDP_AND_VARMIN, "auto.rule=rank"),
        fit_per="id",
        fuse=("beats/bands/beam", "eat/bands/beam"),
    ),
}
