"""Figures are PNG files, whatever the machines are called."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from scored_machines import HOSTILE
from small_runs import make_run

from detect.detectors.training import Epoch
from detect.results import Decided, results
from report.figures import draw_figures, draw_roc, draw_scores
from report.machine_scores import machine_scores


def test_figures_are_png(tmp_path):
    run, *_ = make_run()
    machines = machine_scores(run.table, run.scores, run.results)
    draw_scores(tmp_path / "scores.png", machines)
    assert draw_roc(tmp_path / "roc.png", machines)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["roc.png", "scores.png"]
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def a_font_of_wind(tmp_path, monkeypatch):
    """Offer matplotlib a font that has one character, which its own has not."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib import font_manager

    pen = TTGlyphPen(None)
    for i, corner in enumerate([(0, 0), (400, 900), (800, 0)]):
        (pen.lineTo if i else pen.moveTo)(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "wind"])
    builder.setupCharacterMap({ord("風"): "wind"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "wind": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "wind": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": "Kaze", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "kaze.ttf")
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    manager.addfont(str(tmp_path / "kaze.ttf"))


def test_names_in_a_script_that_the_usual_font_lacks_are_drawn_with_one_that_has_it(
    tmp_path, request
):
    run, *_ = make_run(machine_type="風")
    machines = machine_scores(run.table, run.scores, run.results)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # where no font has it, nobody is told for every character
        draw_scores(tmp_path / "boxes.png", machines)
        request.getfixturevalue("a_font_of_wind")
        draw_scores(tmp_path / "scores.png", machines)
        draw_roc(tmp_path / "roc.png", machines)

    assert (tmp_path / "scores.png").read_bytes() != (tmp_path / "boxes.png").read_bytes()


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_drawn_without_a_warning(name, tmp_path):
    run, *_ = make_run(1, machine_type=name)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_scores(tmp_path / "scores.png", machine_scores(run.table, run.scores, run.results))

    assert [path.name for path in tmp_path.iterdir()] == ["scores.png"]


def test_equal_scores_are_drawn(tmp_path):
    run, *_ = make_run(1)
    flat = [type(s)(s.unit, np.zeros(len(s.scores)), s.detector, 0.0) for s in run.scores]
    run, *_ = make_run(1, scores=flat, results=results(run.table, flat))

    machines = machine_scores(run.table, run.scores, run.results)
    draw_scores(tmp_path / "scores.png", machines)

    assert (tmp_path / "scores.png").stat().st_size > 1000


@pytest.mark.parametrize("kind", ["svg", pytest.param("pdf", marks=pytest.mark.slow)])
def test_every_figure_of_a_paper_is_written_in_other_formats(kind, tmp_path):
    run, *_ = make_run(machine_type="風 fan")
    history = (Epoch(1, 4.0, 8.0, 1e-3), Epoch(2, 2.0, 1.0, 1e-3))
    decided = Decided(0.05, 3, 0, threshold=8.0, false_alarms=0.1, recall=0.5)
    rows = [replace(row, decided=decided) for row in run.results]
    machines = machine_scores(run.table, run.scores, rows)
    scores = [replace(each, history=history) for each in run.scores]

    drawn = draw_figures(tmp_path, machines, scores, [kind])

    names = ["scores", "roc", "order", "confusion", "classes", "losses"]
    assert [path.name for path in drawn] == [f"{name}.{kind}" for name in names]
    if kind == "svg":
        text = drawn[0].read_text(encoding="utf-8")
        assert "風 fan id_00" in text, "letters stay letters, which the reader's fonts draw"
        assert "anomaly score" in text
    else:
        assert all(path.read_bytes().startswith(b"%PDF") for path in drawn)


def test_without_machines_there_are_no_figures(tmp_path):
    assert not draw_scores(tmp_path / "scores.png", [])
    assert not draw_roc(tmp_path / "roc.png", [])

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("labels", [("unknown",), ("normal",), ("anomalous",)])
def test_there_is_no_roc_curve_of_one_class(labels, tmp_path):
    run, *_ = make_run(labels=labels)

    drawn = draw_roc(tmp_path / "roc.png", machine_scores(run.table, run.scores, run.results))

    assert not drawn
    assert list(tmp_path.iterdir()) == []
