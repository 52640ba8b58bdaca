"""The plain computation of `auto` reproduces the figures that its study published."""

import numpy as np
import pytest
from auto_reference import PUBLISHED, figures_on, folds_of, fused_z, views

FIRST = ("anomaly_id_00_00000000", "normal_id_00_00000012")
FUSED = {0.0: (2.7482, -1.1312, 1.3378), 0.05: (2.1141, -0.9991, 1.4127)}
"""Fused z of the first anomalous and the first normal test clip; the threshold at 10 %."""


@pytest.mark.parametrize("level", PUBLISHED)
def test_auc_and_pauc_on_the_fan_are_the_published_ones(shared_data, level):
    figures = figures_on(shared_data / "mimii_fan", level)

    assert figures.keys() == PUBLISHED[level].keys()
    for name, expected in PUBLISHED[level].items():
        assert figures[name] == pytest.approx(expected, abs=6e-5), name


@pytest.mark.parametrize("level", FUSED)
def test_fused_scores_and_the_threshold_are_the_published_ones(shared_data, level):
    folder = shared_data / "mimii_fan" / "fan"
    train = views(sorted(folder.glob("train/*.wav")), level)
    first = [folder / "test" / f"{name}.wav" for name in FIRST]

    held_out, z = fused_z(
        list(train.values()), list(views(first, level).values()), np.arange(len(train["wave"]))
    )

    # of twelve training clips one may be above the threshold of 10 %
    assert (*z, held_out.max()) == pytest.approx(FUSED[level], abs=6e-5)


def test_a_fold_never_splits_a_recording():
    recordings = np.repeat(np.arange(30), 3)

    folds = folds_of(recordings)

    assert len(folds) == 10
    assert sorted(np.concatenate(folds)) == list(range(90))
    for fold in folds:
        assert not set(recordings[fold]) & set(np.delete(recordings, fold))
