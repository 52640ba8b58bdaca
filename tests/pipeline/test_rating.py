"""A machine of a model rates vectors; what cannot be rated costs its own verdict only."""

import numpy as np
import pytest

from pipeline.model import read_model
from pipeline.rating import Judge


@pytest.fixture
def judge(press_hall):
    model = read_model(press_hall)
    return Judge(model, model.load(model.names["press7", ""]), "press7", "")


def test_a_clip_without_any_vector_is_unknown_with_a_reason(judge):
    (row,) = judge.rows(["a.wav"], [{}])

    assert (row.verdict, row.anomaly_score, row.p_value) == ("unknown", None, None)
    assert row.reason == "the detector gives it no finite score"


def test_a_vector_of_another_shape_costs_its_own_verdict(judge):
    usual = judge.loaded.profile.vectors[0]

    rows = judge.rows(["a", "odd", "b"], [{0: usual}, {0: usual[:5]}, {0: usual}])

    assert [row.key for row in rows] == ["a", "odd", "b"]
    assert [row.verdict for row in rows] == ["normal", "unknown", "normal"]
    assert rows[1].reason


def test_a_usual_clip_lies_near_the_machine_and_another_far(judge):
    usual = judge.loaded.profile.vectors[0]

    assert judge.z({0: usual}) < 1 < judge.z({0: usual + 30})
    assert np.isfinite(judge.calibration_scores).all()
