"""Each machine's test clips, the most anomalous first, and what a drawing needs of them."""

import numpy as np
import pytest
from scored_machines import one_clip, scored
from sklearn.metrics import auc

from detect.results import Result, results
from report.machine_scores import DRAWN_AT_MOST, MachineScores, machine_scores, worst_first


def test_clips_are_gathered_by_machine_with_the_most_anomalous_first(rng):
    table, scores = scored(rng)

    machines = machine_scores(table, scores, results(table, scores))

    assert [machine.name for machine in machines] == ["slider id_00", "slider id_02"]
    for machine, fitted in zip(machines, scores, strict=True):
        assert machine.scores.tolist() == sorted(fitted.scores.tolist(), reverse=True)
        score_of = dict(zip(fitted.unit.test_keys, fitted.scores, strict=True))
        assert [score_of[key] for key in machine.keys] == machine.scores.tolist()


def test_clips_without_a_score_are_not_drawn(rng):
    table, (fitted, other) = scored(rng)
    fitted.scores[3] = np.nan
    other.scores[:] = np.nan

    (machine,) = machine_scores(table, [fitted, other], [])

    assert machine.machine_id == "id_00"
    assert len(machine.keys) == len(machine.scores) == 29
    assert fitted.unit.test_keys[3] not in machine.keys


def test_the_roc_curve_has_the_area_of_the_table(rng):
    table, scores = scored(rng)
    rows = results(table, scores)

    for machine in machine_scores(table, scores, rows):
        assert auc(*machine.roc()) == pytest.approx(machine.result.auc)


def test_there_is_no_roc_curve_of_one_class():
    table, fitted = one_clip(("fan", "id_00"), "a.wav", 1.0)

    (machine,) = machine_scores(table, [fitted], [])

    assert machine.roc() is None


@pytest.mark.parametrize(
    ("scores", "is_wide"),
    [([1, 2, 3], False), ([1, 10, 100], True), ([-1, 100], False), ([5, 5], False)],
)
def test_all_scores_lie_within_the_edges_and_ticks_do_too(scores, is_wide):
    values = np.array(scores, dtype=float)
    n = len(values)
    machine = MachineScores("fan", "id_00", ("a",) * n, ("unknown",) * n, values, None)

    edges = machine.edges()

    assert machine.is_wide == is_wide
    assert np.histogram(values, edges)[0].sum() == n
    assert np.all((machine.ticks() >= edges[0]) & (machine.ticks() <= edges[-1]))
    assert len(machine.ticks()) > 1


def test_of_very_many_machines_those_with_the_lowest_auc_are_drawn():
    machines = [
        MachineScores("fan", f"{i}", (), (), np.array([]), Result("fan", f"{i}", 1, 1, 1, i / 100))
        for i in range(100)
    ]

    drawn = worst_first(machines[::-1])

    assert [machine.machine_id for machine in drawn] == [str(i) for i in range(DRAWN_AT_MOST)]
