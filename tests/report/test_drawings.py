"""Shapes show the numbers: every clip is in a bar, curves keep their area."""

import re

import numpy as np
import pytest
from scored_machines import one_clip, scored

from report.drawings import HEIGHT, histogram, roc_path, short
from report.machine_scores import machine_scores


def test_every_clip_is_in_a_bar(rng):
    table, scores = scored(rng, n=60)

    for machine in machine_scores(table, scores, []):
        drawn = histogram(machine)

        counted = [int(bar.says.split()[0]) for bar in drawn.bars]
        assert sum(counted) == 60
        assert max(counted) == drawn.tallest
        assert max(bar.height for bar in drawn.bars) == HEIGHT
        assert all(bar.y + bar.height == pytest.approx(HEIGHT, abs=0.02) for bar in drawn.bars)


@pytest.mark.parametrize("n", [30, 20_000])
def test_a_roc_curve_keeps_its_area_and_few_points(n, rng):
    table, scores = scored(rng, ids=("id_00",), n=n)
    (machine,) = machine_scores(table, scores, [])

    path = roc_path(machine)

    points = np.array(re.findall(r"([\d.]+),([\d.]+)", path), dtype=float)
    area = np.trapezoid(100 - points[:, 1], points[:, 0]) / 1e4
    assert area == pytest.approx(np.trapezoid(*machine.roc()[::-1]), abs=5e-3)
    assert len(points) <= 402


def test_a_machine_of_one_class_has_no_curve():
    table, fitted = one_clip(("fan", "id_00"), "a.wav", 1.0)
    (machine,) = machine_scores(table, [fitted], [])

    assert roc_path(machine) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(12345.6, "12346"), (0.123456, "0.1235"), (1.5e9, "1.5e+09"), (-2, "-2")]
)
def test_scores_are_written_with_about_four_digits(value, text):
    assert short(value) == text
