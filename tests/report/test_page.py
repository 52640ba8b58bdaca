"""The report of a run: one file that needs nothing else, and says what results.csv says."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from scored_machines import HOSTILE as HOSTILE_NAMES
from small_runs import Page, make_run

from detect.detectors.training import Epoch
from detect.fitting import ClipTable, FitUnit, Scores
from detect.out_of_fold import OutOfFold
from detect.results import Decided, Result, results
from detect.thresholds import decide_machines
from detect.training_clips import TrainingOutlier
from ground.text import visible
from report.machine_scores import DRAWN_AT_MOST
from report.page import CLIPS_LISTED, LEFT_OUT_LISTED, ROWS_LISTED, Run, write_report
from report.result_files import write_results

HOSTILE = '<script>alert("1")</script>&amp;\' "x'


def written(folder, run):
    return Page(write_report(folder, run).read_text(encoding="utf-8"))


def test_report_is_one_file_that_fetches_nothing(tmp_path):
    run, *_ = make_run()

    text = write_report(tmp_path, run).read_text(encoding="utf-8")

    page = Page(text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("script") == 2, "its own script, and the clips to search as JSON"
    assert page.links == []
    assert not re.search(r"https?:|url\(|@import|file:", text)


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


def test_a_machine_shows_its_threshold_and_the_verdict_on_each_clip(tmp_path):
    run, *_ = make_run()
    calibration = np.linspace(0.0, 8.0, 20)
    decided = []
    for scores in run.scores:
        unit = scores.unit
        ids, normal = (unit.machine_id,) * 20, tuple(map(str, range(20)))
        held_out = OutOfFold(normal, ids, calibration, 20, 10)
        decided += decide_machines(scores, held_out)
    rows = results(run.table, run.scores, decided=decided)

    page = write_report(tmp_path, replace(run, results=rows, decided=decided))
    text = page.read_text(encoding="utf-8")

    n_cards = len(run.scores)
    assert text.count('class="threshold"') == n_cards
    assert text.count("Threshold 8 (dashed): 5 % false alarms promised") == n_cards
    verdicts = re.findall(r'<td class="n">([-\d.]+)</td>.*<td class="tag">(\w+)</td>', text)
    assert len(verdicts) == n_cards * CLIPS_LISTED
    assert all((float(score) > 8) == (verdict == "anomalous") for score, verdict in verdicts)


def test_hostile_names_are_shown_and_never_obeyed(tmp_path):
    run, *_ = make_run(
        machine_type=HOSTILE,
        title=HOSTILE,
        warnings=[HOSTILE],
        errors=[(HOSTILE, HOSTILE)],
        settings={HOSTILE: HOSTILE},
        facts={HOSTILE: HOSTILE},
    )

    page = written(tmp_path, run)

    assert page.tags.count("script") == 2
    assert HOSTILE in "".join(page.text)


@pytest.mark.parametrize("labels", [("unknown",), ("normal",), ("anomalous",)])
def test_without_both_classes_there_are_scores_and_the_reason_for_no_auc(tmp_path, labels):
    run, *_ = make_run(labels=labels)

    text = "".join(written(tmp_path, run).text)

    assert "no ROC curve" in text
    assert run.results[0].note in text
    assert "Most anomalous clips" in text


def test_a_training_clip_unlike_the_rest_is_listed(tmp_path):
    key = "fan/train/normal_id_00_00000007.wav"
    unlike = [TrainingOutlier(key, "fan id_00", 12.34, "fan/train/normal_id_00_00000001.wav")]

    pages = [
        "".join(written(tmp_path, make_run(1, unlike=clips)[0]).text) for clips in (unlike, [])
    ]

    heading = "Training clips unlike the rest"
    listed = pages[0][pages[0].index(heading) :]
    assert "normal_id_00_00000007.wav" in listed
    assert "12.3" in listed
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


def test_results_json_and_page_count_the_same_machines(tmp_path):
    run, *_ = make_run(4)
    write_results(tmp_path, run.results)

    machines = {machine for machine, _ in written(tmp_path, run).cells}

    rows = json.loads((tmp_path / "results.json").read_text())["results"]
    assert machines == {f"{row['machine_type']} {row['machine_id']}" for row in rows}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_of_a_clip_and_machine_is_text(name, tmp_path):
    run, *_ = make_run(1, machine_type=name, title=name, errors=[(name, name)])

    page = written(tmp_path, run)

    text = "".join(page.text)
    assert page.tags.count("script") == 2
    assert visible(name).replace("\r", "\n") in text
    assert not [c for c in text if not c.isprintable() and c not in "\n\t"]


def test_kinds_of_reasons_are_listed_by_their_first_clips(tmp_path):
    absent = [(f"{i}.wav", f"line {i} of the manifest: {i}.wav is not there") for i in range(90)]
    run, *_ = make_run(1, errors=[*absent, ("x.wav", "0 bytes")])

    text = "".join(written(tmp_path, run).text)

    assert f"line {LEFT_OUT_LISTED - 1} of the manifest" in text
    assert f"line {LEFT_OUT_LISTED} of the manifest" not in text
    assert f"and {90 - LEFT_OUT_LISTED} more" in text
    assert "0 bytes" in text


def test_very_many_kinds_of_reasons_are_counted(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    run, *_ = make_run(1, errors=[("x.wav", f"reason {letter}") for letter in letters])

    text = "".join(written(tmp_path, run).text)

    assert "reason t" in text
    assert "reason u" not in text
    assert f"{len(letters) - LEFT_OUT_LISTED} more for other reasons" in text


def test_a_page_of_many_clips_and_machines_stays_small(rng, tmp_path):
    machines = [("fan", f"id_{i:03d}") for i in range(200)]
    rows, scores, unlike = [], [], []
    for machine in machines:
        keys = [f"{machine[0]}/test/{machine[1]}_{i:08d}.wav" for i in range(50)]
        labels = ["normal" if i % 2 else "anomalous" for i in range(50)]
        rows += [(k, *machine, "test", label) for k, label in zip(keys, labels, strict=True)]
        unit = FitUnit(*machine, (), (), tuple(keys), (machine[1],) * 50)
        scores.append(Scores(unit, rng.normal(size=50), None, 0.0))
        unlike += [TrainingOutlier(key, " ".join(machine), 9.0, "") for key in keys]
    many = tuple(f"fan/test/normal_id_000_{i:08d}.wav" for i in range(20_000))
    rows += [(k, "pump", "", "test", ("normal", "anomalous")[i % 2]) for i, k in enumerate(many)]
    pump = FitUnit("pump", "", (), (), many, ("",) * len(many))
    scores.append(Scores(pump, rng.normal(size=len(many)), None, 0.0))
    run = Run(
        title="many",
        table=ClipTable(*zip(*rows, strict=True)),
        scores=scores,
        results=[Result(*machine, 9, 25, 25, 0.5, 0.4, 0.6, 0.5, 0.4, 0.6) for machine in machines],
        errors=[
            (f"fan/{i}.wav", f"line {i} of the manifest: no such file") for i in range(100_000)
        ],
        unlike=unlike,
    )

    path = write_report(tmp_path, run)

    assert path.stat().st_size < 1_500_000
    Page(path.read_text(encoding="utf-8"))


def test_very_many_results_are_left_to_their_file(tmp_path):
    rows = [Result(f"type{i}", name, 9, 5, 5) for i in range(ROWS_LISTED) for name in ("0", "mean")]
    total = Result("total", "mean", 9, 5, 5, 0.75, 0.7, 0.8, 0.5, 0.5, 0.5)
    run, *_ = make_run(1, results=[*rows, total])

    page = written(tmp_path, run)

    assert ("total mean", "auc") in page.cells
    assert len(page.cells) <= 2 * ROWS_LISTED
    assert "results.csv has the machines" in "".join(page.text)


def test_figures_without_an_interval_are_shown(tmp_path):
    run, *_ = make_run(
        1, results=[Result("fan", n, 1, 1, 1, 0.75, pauc=0.5) for n in ("a", "mean")]
    )

    page = written(tmp_path, run)

    assert page.cells["fan a", "auc"] == "0.750"


def test_the_page_says_what_thresholds_promised_and_did(tmp_path):
    decided = Decided(
        0.05, 12, 3, false_alarms=0.07, false_alarms_low=0.02, false_alarms_high=0.15, recall=0.71
    )
    rows = [
        Result("fan", "id_00", 9, 5, 5, 0.75, note="5 % cannot be promised", decided=decided),
        Result("fan", "id_01", 9, 0, 5, decided=Decided(0.05, 1, 0)),
        Result("fan", "mean", 9, 5, 5, 0.75),
    ]
    run, *_ = make_run(1, results=rows)

    text = "".join(written(tmp_path, run).text)

    assert "5 % → 7 %" in text
    assert "(2 %" in text
    assert "71 %" in text
    assert "5 % → -" in text
    assert "5 % cannot be promised" in text
