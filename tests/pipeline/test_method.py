"""The method in words says what the configuration says."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from detect.fitting import ClipTable
from pipeline.method import method_in_words
from pipeline.plan import combinations_of
from pipeline.settings import Settings

TABLE = ClipTable(
    ("a", "b", "c"), ("fan",) * 3, ("id_00",) * 3, ("train", "test", "test"), ("normal",) * 3
)


def words(n_mels=128, **flags):
    settings = Settings(**flags)
    options = {"n_mels": n_mels, "fmin": 0.0}
    (combination,), _ = combinations_of(settings)
    combination = replace(combination, settings=settings)
    fits = [
        SimpleNamespace(
            member=member,
            source=SimpleNamespace(
                encoder=member.encoder.name,
                pooling=member.pooling.name,
                path=Path("x.h5"),
                configuration={
                    "rebuild": {
                        "encoder_options": options if member.encoder.name == "logmel" else {}
                    }
                },
            ),
        )
        for member in combination.members
    ]
    dataset = SimpleNamespace(name="hall")
    return " ".join(method_in_words(combination, fits, dataset, TABLE))


def test_data_vectors_detector_and_threshold_are_described():
    said = words(
        n_mels=64,
        encoder="logmel",
        pooling="mean",
        detector="knn",
        normalize="rms",
        false_alarms="0.01",
    )

    assert "hall has 3 recordings of 1 machine: 1 for training, all normal, and 2 for" in said
    assert "Channel 0 of each recording, brought to one level, was brought to" in said
    assert "Vectors were made by logmel (n_mels 64) with the pooling mean." in said
    assert "Knn was fitted to the vectors of the normal training clips of each machine ID" in said
    assert "each number scaled by its mean and deviation over them, with seed 0." in said
    assert "by conformal p-values, and promise a false-alarm rate of 0.01." in said
    assert "members" not in said


def test_a_fusion_and_no_thresholds_are_described():
    said = words(system="auto", false_alarms="none", scaler="none")

    assert "The scores of the 4 members were brought to deviations" in said
    assert "No thresholds were asked for." in said
    assert "each number scaled" not in said
    assert "logmel with the pooling quiet, spectrum with the pooling clip and wave with" in said
