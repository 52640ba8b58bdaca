"""What a run did, in sentences made from its configuration: for a page, or for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from detect import facts_of

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet
    from pipeline.judging import MemberFits
    from pipeline.plan import Combination
    from pipeline.settings import Settings

LEVELS = {"rms": "brought to one level", "peak": "brought to one peak"}
SHORT = {"pad": "padded with silence", "repeat": "repeated"}
RULES = {
    "conformal": "by conformal p-values",
    "gamma": "by DCASE's gamma fit at 90 %",
}


def method_in_words(
    combination: Combination, fits: Sequence[MemberFits], dataset: DataSet, table: ClipTable
) -> list[str]:
    """Describe data, vectors, detectors, fusion and thresholds, one sentence or two each."""
    settings = combination.settings
    return [
        _data(dataset, table),
        *_recordings(settings, fits),
        *(_member(fit, settings) for fit in fits),
        *_fits(combination),
        *_fusion(combination, fits),
        *_thresholds(settings),
        "Labels of test clips were used for AUC, pAUC and the measured rates only.",
    ]


def _data(dataset: DataSet, table: ClipTable) -> str:
    n_train = table.split.count("train")
    n_machines = len(set(zip(table.machine_type, table.machine_id, strict=True)))
    machines = "1 machine" if n_machines == 1 else f"{n_machines} machines"
    return (
        f"{dataset.name} has {len(table.key)} recordings of {machines}: {n_train} for training, "
        f"all normal, and {len(table.key) - n_train} for the test."
    )


def _recordings(settings: Settings, fits: Sequence[MemberFits]) -> list[str]:
    """Say how recordings were prepared; nothing where another tool computed the vectors."""
    if not any(fit.source.configuration for fit in fits):
        return ["The vectors were computed by another tool."]
    channel = (
        "The mean of the channels" if settings.channel == "mean" else f"Channel {settings.channel}"
    )
    steps = [LEVELS[settings.normalize]] if settings.normalize in LEVELS else []
    steps += ["freed of silence at both ends"] if settings.trim else []
    steps += ["freed of its median spectrum"] if settings.denoise else []
    steps += [f"{SHORT[settings.short]} where it was too short"] if settings.short in SHORT else []
    prepared = f", {', '.join(steps)}," if steps else ""
    return [f"{channel} of each recording{prepared} was brought to the encoder's sample rate."]


def _member(fit: MemberFits, settings: Settings) -> str:
    """Say how a member turns recordings into scores."""
    source, detector = fit.source, fit.member.detector
    rebuild = source.configuration.get("rebuild", {})
    encoder = f"{source.encoder}{_options(rebuild.get('encoder_options', {}))}"
    pooling = f"{source.pooling}{_options(rebuild.get('pooling_options', {}))}"
    rated = f"{detector.name}{_options(dict(detector.options))}"
    scaled = facts_of(detector.name).wants_scaling and settings.scaler == "standard"
    scale = " (each number scaled by its mean and deviation over them)" if scaled else ""
    return (
        f"The encoder {encoder} with the pooling {pooling} made the vectors, and the detector "
        f"{rated} was fitted to those of the normal training clips{scale}."
    )


def _options(options: Mapping[str, Any]) -> str:
    """Write the options that were set, in brackets; "" where there is none."""
    said = [
        f"{name} {value}" for name, value in options.items() if name not in ("weights", "device")
    ]
    return f" ({', '.join(said)})" if said else ""


def _fits(combination: Combination) -> list[str]:
    per = "machine ID" if combination.fit_per == "id" else "machine type"
    return [f"One model was fitted per {per}, with seed {combination.settings.seed}."]


def _fusion(combination: Combination, fits: Sequence[MemberFits]) -> list[str]:
    if len(fits) == 1:
        return []
    return [
        f"The scores of the {len(fits)} members were brought to deviations of their own scores of "
        f"training clips, taken out of fold, and joined by the rule {combination.rule}."
    ]


def _thresholds(settings: Settings) -> list[str]:
    if settings.false_alarms == "none":
        return ["No thresholds were asked for."]
    promised = (
        "5 % false alarms, or the least that the training clips can promise"
        if settings.false_alarms == "auto"
        else f"a false-alarm rate of {settings.false_alarms}"
    )
    sure = f", with confidence {settings.confidence:g}" if settings.confidence else ""
    return [
        f"Thresholds come from scores of training clips by models that had not seen them, "
        f"{RULES[settings.threshold]}, and promise {promised}{sure}."
    ]
