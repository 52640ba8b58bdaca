"""The report of a run: one file that needs nothing else, and says what results.csv says."""

import csv
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from detect.detectors.training import Epoch
from detect.fitting import ClipTable, DetectorChoice, fit_and_score, units
from detect.results import results
from detect.training_clips import TrainingOutlier
from report.figures import DRAWN_AT_MOST, draw_roc, draw_scores, machine_scores
from report.page import CLIPS_LISTED, Run, write_leaderboard, write_report
from report.tables import leaderboard_entry, write_results

HOSTILE = '<script>alert("1")</script>&amp;\' "x'
VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "line", "path"}


class Page(HTMLParser):
    """Read a page as a browser would, and complain of tags that do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.links, self.cells, self.text = [], [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [v for k, v in attrs.items() if k in ("href", "src", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)
        if "data-machine" in attrs:
            self.machine = attrs["data-machine"]
        self.column = attrs.get("data-column")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if getattr(self, "column", None) and getattr(self, "machine", None):
            self.cells.setdefault((self.machine, self.column), data)


def make_run(n_machines=2, *, labels=("normal", "anomalous"), machine_type="fan", **more):
    rng = np.random.default_rng(0)
    rows, vectors = [], {}
    for m in range(n_machines):
        for split, label, n in (("train", "normal", 20), *(("test", each, 10) for each in labels)):
            for i in range(n):
                key = f"{machine_type}/{split}/{label}_id_{m:02d}_{i:08d}.wav"
                rows.append((key, machine_type, f"id_{m:02d}", split, label))
                vectors[key] = rng.normal(size=4) + 1.5 * (label == "anomalous")
    table = ClipTable(*zip(*rows, strict=True))
    choice = DetectorChoice("mahalanobis")

    def read(keys):
        return np.stack([vectors[key] for key in keys])

    scores = [fit_and_score(unit, read, choice) for unit in units(table)]
    run = Run(
        **{
            "title": "logmel mahalanobis",
            "table": table,
            "scores": scores,
            "results": results(table, scores),
            **more,
        }
    )
    return run, read, choice


def written(folder, run):
    return Page(write_report(folder, run).read_text(encoding="utf-8"))


def test_report_is_one_file_that_fetches_nothing(tmp_path):
    run, *_ = make_run()

    text = write_report(tmp_path, run).read_text(encoding="utf-8")

    page = Page(text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert page.links == []
    assert not re.search(r"https?:|url\(|@import", text)


def test_report_draws_how_each_network_was_trained(tmp_path):
    run, *_ = make_run()
    text = write_report(tmp_path, run).read_text(encoding="utf-8")
    assert "Loss curves" not in text  # mahalanobis trains nothing

    histories = [
        (Epoch(1, 4.0, 8.0, 1e-3), Epoch(2, 2.0, 1.0, 1e-3), Epoch(3, 1.0, 2.0, 1e-3)),
        (Epoch(1, 0.0, 0.5, 1e-3),),  # zero has no logarithm
    ]
    scores = [replace(s, history=h) for s, h in zip(run.scores, histories, strict=True)]
    text = write_report(tmp_path, replace(run, scores=scores)).read_text(encoding="utf-8")

    Page(text)
    drawn = re.findall(r'<path class="(?:training|held-out)" d="([^"]+)"', text)
    assert drawn == [
        "M4,40 L120,80 L236,120",  # logarithmic: each halving is as far
        "M4,0 L120,120 L236,80",
        "M4,120",
        "M4,0",
    ]
    assert "Loss curves of fan id_00" in text
    assert "lowest held-out loss 1 in epoch 2" in text


def test_report_says_what_results_csv_says(tmp_path):
    run, *_ = make_run(3)
    write_results(tmp_path, run.results)

    page = written(tmp_path, run)

    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        machine = f"{row['machine_type']} {row['machine_id']}"
        for column in ("auc", "pauc"):
            assert float(page.cells[machine, column]) == pytest.approx(float(row[column]), abs=6e-4)


def test_report_ranks_the_most_anomalous_clips_first(tmp_path):
    run, *_ = make_run(1)

    text = "".join(written(tmp_path, run).text)

    fitted = run.scores[0]
    order = np.argsort(-fitted.scores)[:CLIPS_LISTED]
    names = [fitted.unit.test_keys[i].rpartition("/")[2] for i in order]
    places = [text.index(name) for name in names]
    assert places == sorted(places)


def test_hostile_names_are_shown_and_never_obeyed(tmp_path):
    run, *_ = make_run(
        machine_type=HOSTILE,
        title=HOSTILE,
        warnings=[HOSTILE],
        errors=[(HOSTILE, HOSTILE)],
        settings={HOSTILE: HOSTILE},
        facts={HOSTILE: HOSTILE},
        data_root=None,
    )

    page = written(tmp_path, run)

    assert "script" not in page.tags
    assert HOSTILE in "".join(page.text)


def test_clips_lead_to_their_recordings(tmp_path):
    run, *_ = make_run(1, data_root=tmp_path / "my data#1")

    links = written(tmp_path, run).links

    root = tmp_path.absolute().as_uri()
    assert len(links) >= CLIPS_LISTED
    assert all(link.startswith(f"{root}/my%20data%231/fan/t") for link in links)


@pytest.mark.parametrize("labels", [("unknown",), ("normal",), ("anomalous",)])
def test_without_both_classes_there_are_scores_and_the_reason_for_no_auc(tmp_path, labels):
    run, *_ = make_run(labels=labels)

    text = "".join(written(tmp_path, run).text)
    drawn = draw_roc(tmp_path / "roc.png", machine_scores(run.table, run.scores, run.results))

    assert "no ROC curve" in text
    assert run.results[0].note in text
    assert "Most anomalous clips" in text
    assert not drawn
    assert not (tmp_path / "roc.png").exists()


def test_an_odd_training_clip_is_pointed_out(tmp_path):
    key = "fan/train/normal_id_00_00000007.wav"
    unlike = [TrainingOutlier(key, "fan id_00", 12.34, "fan/train/normal_id_00_00000001.wav")]

    pages = [
        "".join(written(tmp_path, make_run(1, unlike=clips)[0]).text) for clips in (unlike, [])
    ]

    heading = "Training clips unlike the rest"
    told = pages[0][pages[0].index(heading) :]
    assert "normal_id_00_00000007.wav" in told
    assert "12.3" in told
    assert heading not in pages[1]


def test_warnings_and_clips_left_out_are_on_the_page(tmp_path):
    run, *_ = make_run(warnings=["random weights: no claim"], errors=[("a.wav", "0 bytes")])

    text = "".join(written(tmp_path, run).text)

    assert "random weights: no claim" in text
    assert "a.wav" in text
    assert "0 bytes" in text


def test_settings_that_say_nothing_are_left_out(tmp_path):
    settings = {"trim": False, "ids": "", "sweep": [], "set": ["a=1", "b=2"], "device": None}
    run, *_ = make_run(settings=settings, facts={"fingerprint": "a3f09b"})

    text = write_report(tmp_path, run).read_text(encoding="utf-8").partition("Settings")[2]

    told = re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    assert told == [("fingerprint", "a3f09b"), ("trim", "no"), ("set", "a=1, b=2")]


def test_very_many_machines_stay_one_readable_page(tmp_path):
    run, *_ = make_run(DRAWN_AT_MOST + 6)

    page = written(tmp_path, run)

    assert page.tags.count("article") == DRAWN_AT_MOST
    assert f"the {DRAWN_AT_MOST} of {DRAWN_AT_MOST + 6} machines" in "".join(page.text)


def test_equal_scores_are_drawn(tmp_path):
    run, *_ = make_run(1)
    flat = [type(s)(s.unit, np.zeros(len(s.scores)), s.detector, 0.0) for s in run.scores]
    run, *_ = make_run(1, scores=flat, results=results(run.table, flat))

    machines = machine_scores(run.table, run.scores, run.results)
    written(tmp_path, run)
    draw_scores(tmp_path / "scores.png", machines)

    assert (tmp_path / "scores.png").stat().st_size > 1000


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


def test_leaderboard_shows_every_combination_and_why_one_is_missing(tmp_path):
    run, *_ = make_run()
    entries = [
        leaderboard_entry(
            run.results, encoder="logmel", pooling=pooling, detector=detector, folder=f"{i} #a"
        )
        for i, (pooling, detector) in enumerate([("mean", "knn"), ("mean", "gmm"), ("max", "knn")])
    ]
    entries.append({"encoder": "mfcc", "pooling": "max", "detector": "gmm", "error": HOSTILE})
    entries.append({"run": "mfcc-fluctuation-gmm", "error": "needs log-mel"})

    text = write_leaderboard(tmp_path, entries, title=HOSTILE).read_text(encoding="utf-8")

    page = Page(text)
    assert "script" not in page.tags
    assert HOSTILE in "".join(page.text)
    assert "mfcc-fluctuation-gmm" in "".join(page.text)
    assert page.links.count("0%20%23a/report.html") == 2
    assert "".join(page.text).count(f"{entries[0]['auc_mean']:.3f}") >= 2 * 3
    assert not re.search(r"https?:|url\(", text)


def test_results_json_and_page_count_the_same_machines(tmp_path):
    run, *_ = make_run(4)
    write_results(tmp_path, run.results)

    machines = {machine for machine, _ in written(tmp_path, run).cells}

    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert machines == {f"{row['machine_type']} {row['machine_id']}" for row in rows}
