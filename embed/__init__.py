"""Clips on disk become vectors: find, load, encode.

This page is the menu. Adding an encoder is one file and one row in `ENCODERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from ground.menu import loaded_on_use
from ground.registry import Row, find_row, split_name

if TYPE_CHECKING:
    from embed.encoder import Encoder
    from embed.pooling import Pooling

ENCODERS: dict[str, Row] = {
    "logmel": Row(
        "embed.encoders.logmel:LogMel", "log-mel spectrogram, 128 bands in dB; needs no weights"
    ),
    "mfcc": Row(
        "embed.encoders.logmel:MFCC", "40 mel-frequency cepstral coefficients; needs no weights"
    ),
    "spectrum": Row(
        "embed.encoders.spectrum:Spectrum", "levels and movement of 96 log bands; needs no weights"
    ),
    "wave": Row(
        "embed.encoders.wave:Wave", "level, peakedness and brightness, 4 numbers; needs no weights"
    ),
    "panns": Row("embed.encoders.panns:Cnn14", "PANNs Cnn14 trained on AudioSet, 32 kHz, 2048-d"),
    "efficientat": Row(
        "embed.encoders.efficientat:EfficientAT",
        "EfficientAT trained on AudioSet, small and fast on a CPU, 32 kHz, 960-d, 4 bands",
    ),
    "ast": Row(
        "embed.encoders.spectrogram_transformer:SpectrogramTransformer",
        "Audio Spectrogram Transformer trained on AudioSet, 16 kHz, 768-d",
    ),
    "beats": Row(
        "embed.encoders.beats:Beats",
        "BEATs trained on AudioSet without labels, 16 kHz, 768-d, 8 bands",
    ),
    "eat": Row(
        "embed.encoders.eat:Eat",
        "EAT or SSLAM trained on AudioSet without labels, 16 kHz, 768-d, 8 bands",
    ),
    "ced": Row(
        "embed.encoders.ced:Ced",
        "CED trained on AudioSet, tiny to base, 16 kHz, 192-d to 768-d, 4 bands",
    ),
    "dasheng": Row(
        "embed.encoders.dasheng:Dasheng",
        "Dasheng trained on sound without labels, 16 kHz, 768-d per 40 ms",
    ),
    "vggish": Row(
        "embed.encoders.vggish:VGGish", "VGGish trained on videos' labels, 16 kHz, 128-d per 0.96 s"
    ),
    "wav2vec2": Row(
        "embed.encoders.wav2vec2:Wav2Vec2",
        "wav2vec 2.0 base trained on speech, 16 kHz, 768-d per 20 ms",
    ),
    "resnet50": Row(
        "embed.encoders.resnet50:ResNet50",
        "ResNet50 trained on ImageNet, log-mel as a picture, 2048-d",
    ),
    "hf": Row(
        "embed.encoders.hub_model:HubModel",
        "hf:MODEL, an audio model of the Hugging Face hub or a folder; its hidden states",
    ),
}

POOLINGS: dict[str, Row] = {
    "clip": Row("embed.pooling:Clip", "the network's own vector of a clip"),
    "cls": Row("embed.pooling:Cls", "the first token of AST or EAT"),
    "mean": Row("embed.pooling:Mean", "mean over time"),
    "max": Row("embed.pooling:Max", "maximum over time"),
    "mean_max": Row("embed.pooling:MeanMax", "mean and maximum over time, side by side"),
    "gwrp": Row("embed.pooling:GWRP", "global weighted ranking: sorted over time, weights r^k"),
    "gem": Row("embed.pooling:GeM", "generalized mean with power p"),
    "rdp": Row("embed.pooling:RDP", "frames weighted by their relative deviation, power gamma"),
    "fluctuation": Row("embed.pooling:Fluctuation", "level, fluctuation and flux of log-mel bands"),
    "quiet": Row("embed.pooling:Quiet", "mean of the quietest quarter of the frames per band"),
    "flatten": Row("embed.pooling:Flatten", "all frames, one after the other, as one vector"),
    "bands": Row("embed.pooling:Bands", "frequency kept, time pooled"),
    "frames": Row("embed.pooling:Frames", "time kept, for detectors that take sequences"),
}

__getattr__ = loaded_on_use(
    __name__,
    {
        "find_clips": "embed.recordings.clips",
        "load_recording": "embed.recordings.audio",
        "Preprocessing": "embed.recordings.preprocessing",
        "Encoder": "embed.encoder",
        "TorchEncoder": "embed.torch_encoder",
    },
)


def encoder_row(name: str) -> Row:
    """Return the row of an encoder; of `hf:MODEL`, the row of `hf` with that model.

    `package.module:Class` is somebody else's class. ValueError for an unknown name, with the
    nearest known one, and for a model of an encoder that takes none.
    """
    family, model = split_name(name)
    if not model or family not in ENCODERS:
        return find_row(name, ENCODERS, "encoder")
    if family != "hf":
        raise ValueError(f"{family} takes no model; only hf:MODEL does")
    row = ENCODERS[family]
    return replace(row, options={**row.options, "model": model})


def make_encoder(name: str, **options: Any) -> Encoder:
    """Build an encoder by its name: of the registry, `hf:MODEL`, or `package.module:Class`.

    ValueError for an unknown name or option, and for a value that an option cannot have.
    """
    return _make(encoder_row(name), "encoder", name, options)  # type: ignore[no-any-return]


def make_pooling(name: str, **options: Any) -> Pooling:
    """Build a pooling by its name, of the registry or `package.module:Class`.

    ValueError for an unknown name or option, and for a value that an option cannot have.
    """
    row = find_row(name, POOLINGS, "pooling")
    return _make(row, "pooling", name, options)  # type: ignore[no-any-return]


def check_encoder(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for the first option that an encoder has not, or that cannot be so."""
    _check(encoder_row(name), "encoder", name, options)


def check_pooling(name: str, options: Mapping[str, Any]) -> None:
    """Raise ValueError for the first option that a pooling has not, or that cannot be so."""
    _check(find_row(name, POOLINGS, "pooling"), "pooling", name, options)


def _make(row: Row, kind: str, name: str, options: Mapping[str, Any]) -> Any:
    _check(row, kind, name, options)
    return row.resolve()(**{**row.options, **options})


def _check(row: Row, kind: str, name: str, options: Mapping[str, Any]) -> None:
    cls = row.resolve()
    known = [f.name for f in fields(cls)]
    for option in options:
        if option not in known:
            raise ValueError(
                f"{kind} {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}"
            )
    if options:
        from ground.options import check_options

        check_options(cls, options, name)
