"""What a run did, in sentences made from its configuration: for a page, or for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from detect import facts_of
from embed import ENCODERS, POOLINGS

if TYPE_CHECKING:
    from detect.fitting import ClipTable
    from embed.recordings.dataset import DataSet
    from ground.registry import Row
    from pipeline.judging import MemberFits
    from pipeline.plan import Combination
    from pipeline.settings import Settings

LEVELS = {"rms": "brought to one level", "peak": "brought to one peak"}
NOT_SAID = ("weights", "device", "sample_rate")
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
        _vectors(fits),
        _detectors(combination, fits),
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


def _vectors(fits: Sequence[MemberFits]) -> str:
    """Say what turned recordings into vectors, with the options that are not the usual ones."""
    made = []
    for source in (fit.source for fit in fits):
        rebuild = source.configuration.get("rebuild", {})
        encoder = _unusual(source.encoder, ENCODERS, rebuild.get("encoder_options", {}))
        pooling = _unusual(source.pooling, POOLINGS, rebuild.get("pooling_options", {}))
        made.append(f"{source.encoder}{encoder} with the pooling {source.pooling}{pooling}")
    return f"Vectors were made by {_listed(list(dict.fromkeys(made)))}."


def _detectors(combination: Combination, fits: Sequence[MemberFits]) -> str:
    """Say what was fitted to the vectors."""
    choices = dict.fromkeys(fit.member.detector for fit in fits)
    names = _listed([f"{each.name}{_bracketed(dict(each.options))}" for each in choices])
    is_scaled = combination.settings.scaler != "none"
    scaled = is_scaled and any(facts_of(each.name).wants_scaling for each in choices)
    scale = ", each number scaled by its mean and deviation over them" if scaled else ""
    per = "machine ID" if combination.fit_per == "id" else "machine type"
    return (
        f"{names[0].upper() + names[1:]} was fitted to the vectors of the normal training clips "
        f"of each {per}{scale}, with seed {combination.settings.seed}."
    )


def _unusual(name: str, registry: Mapping[str, Row], options: Mapping[str, Any]) -> str:
    """Write the options that differ from those of the class, in brackets."""
    if name not in registry:
        return _bracketed(options)
    usual = {f.name: f.default for f in fields(registry[name].resolve())}
    return _bracketed({key: value for key, value in options.items() if usual.get(key) != value})


def _bracketed(options: Mapping[str, Any]) -> str:
    said = [f"{key} {value}" for key, value in options.items() if key not in NOT_SAID]
    return f" ({', '.join(said)})" if said else ""


def _listed(names: Sequence[str]) -> str:
    """Join with commas and an `and`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


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
    rule = RULES.get(settings.threshold, f"by the rule {settings.threshold}")
    sure = f", with confidence {settings.confidence:g}" if settings.confidence else ""
    return [
        f"Thresholds come from scores of training clips by models that had not seen them, "
        f"{rule}, and promise {promised}{sure}."
    ]
