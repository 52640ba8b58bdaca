"""Published weights, one row per encoder, and the checkpoint that an encoder's option means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fetch.checkpoints import Checkpoint, checkpoint_hash
from fetch.download import RemoteFile
from fetch.places import remove_leftovers, weights_folder
from fetch.sources import HUB, DirectFile, HubRepository, Source, TensorFlowHub

RANDOM = "random"
RANDOM_WARNING = "random weights: these scores say nothing about the encoder"
HINT = "or pass --weights PATH to a copy of yours, or --weights random for a trial"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where an encoder's published weights are, their licence, and what to cite."""

    encoder: str
    """Name in the registry of encoders, with `-<variant>` for any but its usual model, and of the
    folder in which the weights are kept."""
    source: Source
    trained_on: str
    licence: str
    citation: str

    @property
    def folder(self) -> Path:
        """Where this project keeps them, or where a person puts them."""
        return weights_folder(self.encoder)


EFFICIENTAT = (
    'Schmid, Koutini and Widmer, "Efficient large-scale audio tagging via transformer-to-CNN '
    'knowledge distillation", ICASSP 2023, doi:10.1109/ICASSP49357.2023.10096110'
)
EFFICIENTAT_URL = "https://github.com/fschmid56/EfficientAT/releases/download/v0.0.1"
MN04_SHA256 = "899a8c6217063f6941793102a2780b3dd788ab11fce468d9cf5f0577c453321c"


def _hub_file(repository: str, name: str, size: int | str, sha256: str = "") -> DirectFile:
    """Describe a file on Hugging Face's main branch whose bytes are known, or first seen."""
    return DirectFile(
        file=RemoteFile(
            name=name,
            urls=(f"{HUB}/{repository}/resolve/main/{name}",),
            size=size if isinstance(size, int) else 0,
            about_size=size if isinstance(size, str) else "",
            hash=f"sha256:{sha256}" if sha256 else "",
        )
    )


BEATS = (
    'Chen et al., "BEATs: audio pre-training with acoustic tokenizers", ICML 2023, arXiv:2212.09058'
)
CED = (
    'Dinkel et al., "CED: consistent ensemble distillation for audio tagging", ICASSP 2024, '
    "arXiv:2308.11957"
)
CED_SIZES = {
    "ced": ("base", "about 343 MB"),
    "ced-small": ("small", "about 87 MB"),
    "ced-mini": ("mini", "about 39 MB"),
    "ced-tiny": ("tiny", "about 22 MB"),
}

WEIGHTS: dict[str, Weights] = {
    row.encoder: row
    for row in (
        Weights(
            encoder="panns",
            source=DirectFile(
                file=RemoteFile(
                    name="Cnn14_mAP=0.431.pth",
                    urls=(
                        "https://zenodo.org/api/records/3987831/files/Cnn14_mAP=0.431.pth/content",
                        "https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1",
                    ),
                    size=327_428_481,
                    hash="sha256:0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
                ),
                elsewhere=("~/panns_data",),
            ),
            trained_on="AudioSet, 527 sounds (supervised)",
            licence="CC-BY-4.0",
            citation=(
                'Kong et al., "PANNs: large-scale pretrained audio neural networks for audio '
                'pattern recognition", IEEE/ACM TASLP 28, 2020, doi:10.1109/TASLP.2020.3030497'
            ),
        ),
        Weights(
            encoder="ast",
            source=HubRepository(
                repository="MIT/ast-finetuned-audioset-10-10-0.4593",
                revision="f826b80d28226b62986cc218e5cec390b1096902",
                contents={
                    "model.safetensors": (
                        346_404_948,
                        "ae0c1e2ad4e1381d851fa9bf298ba13ebc9c5a914cdee2dbe427a6583869924d",
                    ),
                    "config.json": (
                        26_763,
                        "a93d525511d77e8ecc933d09674b85099815bbbb417c228a4edd655e252fb9ff",
                    ),
                    "preprocessor_config.json": (
                        297,
                        "8d04ba5a9c6fca5d39d0de2b1fd05ecf79deb589fbba279728bbebac39934231",
                    ),
                },
            ),
            trained_on="ImageNet, then AudioSet, 527 sounds (supervised)",
            licence="BSD-3-Clause",
            citation=(
                'Gong, Chung and Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021, '
                "doi:10.21437/Interspeech.2021-698"
            ),
        ),
        *(
            Weights(
                encoder=encoder,
                source=_hub_file("lpepino/beats_ckpts", name, 361_499_833, sha256),
                trained_on="AudioSet (self-supervised)",
                licence="MIT",
                citation=BEATS,
            )
            for encoder, name, sha256 in (
                (
                    "beats",
                    "BEATs_iter3_plus_AS2M.pt",
                    "d43cbfad4d7b56381c061d7a24774f908d4d94c72961f6eb1d9090ff18cd8d34",
                ),
                (
                    "beats-iter3",
                    "BEATs_iter3.pt",
                    "8d1b234032a9ccff353612dc6c20982346dc2968b205b79d97303eb5e77bfb34",
                ),
            )
        ),
        Weights(
            encoder="eat",
            source=_hub_file(
                "worstchan/EAT-base_epoch30_pretrain",
                "model.safetensors",
                "about 360 MB",
                "8623072d09aac4f3ad1168b4fed3a24e4f68fe1da25b9fe733375efb237e5f48",
            ),
            trained_on="AudioSet (self-supervised)",
            licence="MIT",
            citation=(
                'Chen et al., "EAT: self-supervised pre-training with efficient audio '
                'transformer", IJCAI 2024, arXiv:2401.03497'
            ),
        ),
        Weights(
            encoder="eat-sslam",
            source=_hub_file(
                "ta012/SSLAM_pretrain",
                "model.safetensors",
                "about 360 MB",
                "8ec670adb241c710422ddd894ff1bade142ef0b25cf1ee68577aa45f89432298",
            ),
            trained_on="AudioSet and mixtures of it (self-supervised)",
            licence="MIT",
            citation=(
                'Alex et al., "SSLAM: enhancing self-supervised models with audio mixtures for '
                'polyphonic soundscapes", ICLR 2025, arXiv:2506.12222'
            ),
        ),
        *(
            Weights(
                encoder=encoder,
                source=_hub_file(f"mispeech/ced-{size}", "model.safetensors", about_size),
                trained_on="AudioSet, 527 sounds (supervised, distilled)",
                licence="Apache-2.0",
                citation=CED,
            )
            for encoder, (size, about_size) in CED_SIZES.items()
        ),
        Weights(
            encoder="dasheng",
            source=_hub_file("mispeech/dasheng-base", "model.safetensors", "about 342 MB"),
            trained_on="272,356 h of sound, music and speech (self-supervised)",
            licence="Apache-2.0",
            citation=(
                'Dinkel et al., "Scaling up masked audio encoder learning for general audio '
                'classification", Interspeech 2024, arXiv:2406.06992'
            ),
        ),
        Weights(
            encoder="vggish",
            source=TensorFlowHub(
                handles=(
                    "https://tfhub.dev/google/vggish/1",
                    "https://www.kaggle.com/models/google/vggish/TensorFlow2/vggish/1",
                ),
                archive="vggish_1.tar.gz",
                about_size="about 290 MB",
            ),
            trained_on="a preliminary version of YouTube-8M, labels of videos (supervised)",
            licence="Apache-2.0",
            citation=(
                'Hershey et al., "CNN architectures for large-scale audio classification", '
                "ICASSP 2017, doi:10.1109/ICASSP.2017.7952132"
            ),
        ),
        Weights(
            encoder="wav2vec2",
            source=HubRepository(
                repository="facebook/wav2vec2-base",
                revision="0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
                contents={
                    "pytorch_model.bin": (
                        380_267_417,
                        "3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
                    ),
                    "config.json": (
                        1_842,
                        "4937977e24d12d1bba70cdce8709c3c04807a8e4ae8ddac4229c48c436ae99ae",
                    ),
                    "preprocessor_config.json": (
                        159,
                        "b225d617c025463b9e157e06afea8b90dc7078fc70b013c533328423e0486b4a",
                    ),
                },
            ),
            trained_on="LibriSpeech, 960 h of speech (self-supervised)",
            licence="Apache-2.0",
            citation=(
                'Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech '
                'representations", NeurIPS 2020, arXiv:2006.11477'
            ),
        ),
        Weights(
            encoder="resnet50",
            source=HubRepository(  # the hub states the hashes when the files are fetched
                repository="microsoft/resnet-50",
                revision="34c2154c194f829b11125337b98c8f5f9965ff19",
                contents={
                    "model.safetensors": ("about 102 MB", ""),
                    "config.json": ("about 70 kB", ""),
                },
            ),
            trained_on="ImageNet-1k, 1000 kinds of photographs (supervised)",
            licence="Apache-2.0",
            citation=(
                'He et al., "Deep residual learning for image recognition", CVPR 2016, '
                "doi:10.1109/CVPR.2016.90"
            ),
        ),
        *(
            Weights(
                encoder=encoder,
                source=DirectFile(
                    file=RemoteFile(
                        name=f"{name}.pt",
                        urls=(f"{EFFICIENTAT_URL}/{name}.pt",),
                        size=4_066_513 if name.startswith("mn04") else 0,
                        about_size=about_size,
                        hash=f"sha256:{MN04_SHA256}" if name.startswith("mn04") else "",
                    )
                ),
                trained_on="ImageNet, then AudioSet, 527 sounds (supervised, distilled)",
                licence="MIT",
                citation=EFFICIENTAT,
            )
            for encoder, name, about_size in (
                ("efficientat", "mn10_as_mAP_471", "about 20 MB"),
                ("efficientat-mn04", "mn04_as_mAP_432", ""),
                ("efficientat-mn05", "mn05_as_mAP_443", "about 6 MB"),
                ("efficientat-mn20", "mn20_as_mAP_478", "about 72 MB"),
                ("efficientat-mn30", "mn30_as_mAP_482", "about 157 MB"),
                ("efficientat-mn40", "mn40_as_mAP_484", "about 274 MB"),
                ("efficientat-mn40_ext", "mn40_as_ext_mAP_487", "about 274 MB"),
            )
        ),
    )
}


def find_checkpoint(option: str, weights: Weights, *, offline: bool = False) -> Checkpoint:
    """Return the user's checkpoint, or the published one where `option` is empty.

    Raises FileNotFoundError where `option` is no path, ValueError for a wrong kind of path, and
    DownloadError if published weights are neither here nor can be fetched.
    """
    if not option:
        path = published(weights, offline=offline)
        return Checkpoint(path, weights.source.checkpoint_hash(path))
    path = Path(option).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"No checkpoint at {path}: --weights takes a checkpoint file, a save_pretrained "
            f"folder or {RANDOM!r}"
        )
    path = weights.source.of_user(path)
    if path.is_dir() and not weights.source.is_folder:
        raise ValueError(f"{path} is a folder; {weights.encoder} takes a checkpoint file")
    return Checkpoint(path, checkpoint_hash(path))


def published(weights: Weights, *, offline: bool = False) -> Path:
    """Return the path of the published weights, verified; fetch them if they are nowhere here.

    The hash of what is fetched without a pinned hash is recorded as first seen.
    """
    source, folder = weights.source, weights.folder
    remove_leftovers(folder)
    path = source.find(folder)
    if path is None:
        path = source.fetch(folder, offline=offline, hint=HINT)
        source.checkpoint_hash(path)
    return path
