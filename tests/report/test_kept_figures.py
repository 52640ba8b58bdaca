"""A figure is drawn once; runs of the same numbers have a copy of it."""

from dataclasses import replace

import pytest
from PIL import Image
from small_runs import make_run

from report.figures import draw_roc
from report.kept_figures import draw_or_copy
from report.machine_scores import machine_scores


@pytest.fixture
def drawn():
    """Collect the paths of figures that were drawn."""
    return []


@pytest.fixture
def draw(drawn):
    def drawing(path, machines):
        drawn.append(path)
        return draw_roc(path, machines)

    return drawing


@pytest.fixture
def machines():
    run, *_ = make_run()
    return machine_scores(run.table, run.scores, run.results)


@pytest.fixture
def runs(tmp_path):
    """Make the folders of three runs; return where each has its figure."""
    paths = [tmp_path / f"2026-01-0{day}-auto" / "roc.png" for day in (1, 2, 3)]
    for path in paths:
        path.parent.mkdir()
    return paths


def test_a_run_of_the_same_numbers_has_a_copy(machines, runs, draw, drawn):
    for path in runs:
        assert draw_or_copy(path, machines, draw)

    assert drawn == runs[:1]
    assert len({path.read_bytes() for path in runs}) == 1
    with Image.open(runs[2]) as picture:
        picture.verify()


def test_other_numbers_are_drawn(machines, runs, draw, drawn):
    others = [replace(machines[0], scores=machines[0].scores * 1.001), *machines[1:]]
    named = [replace(machines[0], machine_id="id_99"), *machines[1:]]
    for path, shown in zip(runs, (machines, others, named), strict=True):
        draw_or_copy(path, shown, draw)

    assert drawn == runs


def test_what_cannot_be_read_is_drawn(machines, runs, draw, drawn):
    runs[0].mkdir()
    runs[1].write_bytes(b"")
    draw_or_copy(runs[2], machines, draw)

    assert drawn == runs[2:]


def test_there_is_no_figure_of_nothing(runs, draw):
    assert not draw_or_copy(runs[0], [], draw)
    assert not runs[0].exists()
