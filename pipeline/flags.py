"""The flags of the command line: each is a field, and says how it is called and what it does.

A run folder's config.toml holds the same fields by the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

IN, HOW, THEIRS, JUDGE, OUT = "Data", "Embed", "Other tools' embeddings", "Detect", "Output"


@dataclass(frozen=True)
class Flag:
    """How one field is a flag of the command line."""

    names: str
    panel: str
    about: str
    least: int | None = None
    """The least number that it takes."""
    makes_vectors: bool = False
    """Whether it counts only where vectors are computed here; with --embeddings it is unused."""


@dataclass(frozen=True, kw_only=True)
class EmbedFlags:
    """Which clips, and how they become vectors."""

    data: Annotated[
        str,
        Flag(
            "--data",
            IN,
            "A folder of recordings, a CSV manifest, [bold]demo[/] or "
            "[bold]dcase2020:slider[/] to [bold]dcase2026:sliderEmu[/]; ./dev_data if it is there.",
        ),
    ] = ""
    machine: Annotated[str, Flag("--machine", IN, "Only these machine types.")] = ""
    ids: Annotated[str, Flag("--ids", IN, "Only these machine IDs.")] = ""
    supplemental: Annotated[
        Literal["leave", "use"],
        Flag("--supplemental", IN, "use: DCASE's clips of a machine alone train it too."),
    ] = "leave"
    channel: Annotated[
        str,
        Flag(
            "--channel",
            IN,
            "Channel number, from 0, or mean of all; of stereo also near (0), far (1), mix (their "
            "mean) or w1 (near, with what the far microphone explains subtracted).",
            makes_vectors=True,
        ),
    ] = "0"
    normalize: Annotated[
        Literal["none", "rms", "peak"],
        Flag("--normalize", IN, "Level every clip, before all else.", makes_vectors=True),
    ] = "none"
    trim: Annotated[
        bool, Flag("--trim", IN, "Cut silence (-40 dB) off both ends.", makes_vectors=True)
    ] = False
    denoise: Annotated[
        bool, Flag("--denoise", IN, "Subtract each clip's median spectrum.", makes_vectors=True)
    ] = False
    short: Annotated[
        Literal["error", "pad", "repeat"],
        Flag(
            "--short",
            IN,
            "What is done with clips that are shorter than the encoder needs.",
            makes_vectors=True,
        ),
    ] = "error"

    encoder: Annotated[
        str,
        Flag(
            "--encoder -e",
            HOW,
            "Encoder of --list; several, comma-separated, are a grid. logmel if only --pooling or "
            "--detector is given.",
            makes_vectors=True,
        ),
    ] = ""
    pooling: Annotated[
        str, Flag("--pooling -p", HOW, "Pooling of --list; the encoder's own by default.")
    ] = ""
    weights: Annotated[
        str,
        Flag(
            "--weights",
            HOW,
            "random, a checkpoint or a save_pretrained folder; in a grid panns=PATH,ast=PATH; "
            "the published weights by default.",
        ),
    ] = ""
    offline: Annotated[bool, Flag("--offline", HOW, "Never use the network.")] = False
    device: Annotated[
        str,
        Flag(
            "--device",
            HOW,
            "cpu, cuda, or cuda:0,cuda:1 or all: a process on each; the best there is by default.",
        ),
    ] = ""
    precision: Annotated[
        Literal["fp32", "bf16"],
        Flag(
            "--precision", HOW, "bf16: faster networks, vectors about 1 % off.", makes_vectors=True
        ),
    ] = "fp32"
    backend: Annotated[
        Literal["torch", "compiled", "openvino", "onnxruntime", "auto"],
        Flag(
            "--backend", HOW, "What runs networks; auto: the fastest installed.", makes_vectors=True
        ),
    ] = "torch"
    batch_size: Annotated[
        int, Flag("--batch-size", HOW, "Clips per forward pass; 0: auto.", least=0)
    ] = 0
    workers: Annotated[
        int, Flag("--workers", HOW, "Decoding threads and fitting processes; 0: auto.", least=0)
    ] = 0
    engine: Annotated[
        str,
        Flag(
            "--engine",
            HOW,
            "local, or ray: Ray's workers on this machine; auto or ray://HOST: on a running "
            "cluster.",
        ),
    ] = "local"
    shard: Annotated[
        str,
        Flag(
            "--shard",
            HOW,
            "NUMBER/COUNT, such as 2/8: embed this share of the clips, and stop there.",
            makes_vectors=True,
        ),
    ] = ""
    cache_dir: Annotated[Path, Flag("--cache-dir", HOW, "Where vectors are kept.")] = Path(
        "embeddings"
    )
    set: Annotated[
        list[str],
        Flag(
            "--set",
            HOW,
            "NAME.option=value, NAME a name of --list, or encoder, pooling, detector. Repeatable.",
        ),
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where results go, and how much is printed."""

    out: Annotated[Path, Flag("--out", OUT, "Where run folders go.")] = Path("runs")
    quiet: Annotated[bool, Flag("--quiet -q", OUT, "Print results and errors only.")] = False
    json: Annotated[bool, Flag("--json", OUT, "Print results as JSON.")] = False
    scores: Annotated[
        bool, Flag("--scores", OUT, "With --json, print the score of every clip too.")
    ] = False

    not_flags: ClassVar[frozenset[str]] = frozenset()
    """Settings that a command has no flag for."""


@dataclass(frozen=True, kw_only=True)
class ImportFlags:
    """Vectors that another tool computed."""

    embeddings: Annotated[
        str,
        Flag(
            "--embeddings",
            THEIRS,
            "Vectors of another tool instead of --encoder: HDF5, npz or a folder of npy.",
        ),
    ] = ""
    embeddings_key: Annotated[
        str, Flag("--embeddings-key", THEIRS, "Where in that file the vectors are.")
    ] = ""
    names_key: Annotated[str, Flag("--names-key", THEIRS, "Where in that file the names are.")] = ""
    match: Annotated[
        str,
        Flag("--match", THEIRS, "Names are clips by path, name or stem; the strictest that fits."),
    ] = ""
    axes: Annotated[str, Flag("--axes", THEIRS, "Frames in that file are ntd or ndt.")] = ""
    dequantise: Annotated[
        bool, Flag("--dequantise", THEIRS, "Map uint8 vectors, quantised VGGish, to -2..2.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class DetectFlags:
    """How vectors are judged."""

    labels: Annotated[
        str,
        Flag(
            "--labels",
            IN,
            "Labels of test clips whose names have none: DCASE's ground_truth_*.csv or a folder of "
            "them, eval_data_list_*.csv, or a manifest.",
        ),
    ] = ""
    detector: Annotated[
        str,
        Flag(
            "--detector -d",
            JUDGE,
            "Detector of --list; several, comma-separated, are a grid. mahalanobis by default.",
        ),
    ] = ""
    system: Annotated[
        str,
        Flag(
            "--system",
            JUDGE,
            "A preset of --list: encoder, pooling, detector and options; flags given here win. "
            "Several, comma-separated, are a grid. [bold]auto[/] where nothing else is named.",
        ),
    ] = ""
    fuse: Annotated[
        str,
        Flag(
            "--fuse",
            JUDGE,
            "Members encoder/pooling/detector, comma-separated, whose scores are fused.",
        ),
    ] = ""
    fit_per: Annotated[
        Literal["id", "type"] | None,
        Flag("--fit-per", JUDGE, "One model per machine ID (default), or per type."),
    ] = None
    scaler: Annotated[
        Literal["standard", "none"] | None,
        Flag("--scaler", JUDGE, "What stands before the detector; standard by default."),
    ] = None
    sweep: Annotated[
        list[str], Flag("--sweep", JUDGE, "NAME.option=a,b,c: one run per value. Repeatable.")
    ] = field(default_factory=list)
    false_alarms: Annotated[
        str,
        Flag(
            "--false-alarms",
            JUDGE,
            "Share of normal clips that may be called anomalous, such as 0.01; auto: 0.05, or the "
            "least that the training clips can promise; none: no thresholds. They cost at most 12 "
            "more fits per machine, 3 where a network is trained.",
        ),
    ] = "auto"
    confidence: Annotated[
        float | None,
        Flag("--confidence", JUDGE, "Keep that promise with this confidence, such as 0.95."),
    ] = None
    threshold: Annotated[
        Literal["conformal", "gamma", "domains"],
        Flag(
            "--threshold",
            JUDGE,
            "domains: keep the promise in source and target each, whose training clips are told "
            "apart; gamma: DCASE's fit at 90 %, for comparison.",
        ),
    ] = "conformal"
    trust_classes: Annotated[
        bool,
        Flag("--trust-classes", JUDGE, "Import the classes that a config.toml or a model names."),
    ] = False
    seed: Annotated[int, Flag("--seed", JUDGE, "Seed of all that is random.", least=0)] = 0
    seeds: Annotated[int, Flag("--seeds", JUDGE, "Run this many seeds.", least=1)] = 1


@dataclass(frozen=True, kw_only=True)
class PageFlags:
    """What a run shows beside its numbers."""

    page_clips: Annotated[
        int | None,
        Flag(
            "--page-clips",
            OUT,
            "At most so many clips to hear per machine on the page; 10, and 2 in a grid; 0: none.",
            least=0,
        ),
    ] = None
    map: Annotated[
        Literal["pca", "umap"],
        Flag("--map", OUT, "How the page places embeddings; umap needs the extra umap."),
    ] = "pca"
    figures: Annotated[
        str,
        Flag(
            "--figures",
            OUT,
            "Write all figures as png, svg or pdf, comma-separated, or none; by default scores.png "
            "and roc.png, and none for the runs of a grid.",
        ),
    ] = ""
