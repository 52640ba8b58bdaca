"""The reasons name the faults of the demo: one machine, all its clips."""

import numpy as np
import pytest
import soundfile

from benchmarks.explanations_on_demo import (
    DETECTED,
    by_chance,
    explain_machine,
    learn,
    table,
    truth,
)
from embed.recordings import demo


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "RAILS", demo.RAILS[:1])
        patch.setattr(demo, "N_TEST_NORMAL", 1)
        demo.write_demo_data(folder)
        return explain_machine(folder, learn(folder, "id_00"), seed=0)


@pytest.mark.slow
def test_band_and_second_of_detected_faults_are_named(findings):
    detected = [one for one in findings if one.p_value <= DETECTED]

    assert len(findings) == 20
    assert len(detected) >= 8
    assert np.mean([one.both() for one in detected]) >= 0.7
    assert by_chance(detected) <= 0.1


def test_the_table_has_a_row_per_fault(findings):
    rows = table(findings).splitlines()

    assert [row.split(" | ")[0] for row in rows[2:6]] == [
        "| rail scratch",
        "| loose belt",
        "| dry bearing",
        "| all",
    ]


def test_an_explanation_takes_well_under_50_milliseconds(findings):
    assert min(one.milliseconds for one in findings) < 50


def test_a_clip_that_the_generator_would_not_write_is_refused(tmp_path):
    rail = demo.RAILS[0]
    path = tmp_path / f"anomaly_{rail.machine_id}_00000000.wav"
    soundfile.write(path, demo.record(rail, "loose belt", 1.0, (1, 0, 2, 0)), demo.SAMPLE_RATE)
    fault = {"fault": "loose belt", "severity": 1.0}

    assert truth(path, fault, seed=1).any()
    with pytest.raises(ValueError, match="the generator has changed"):
        truth(path, fault, seed=2)
