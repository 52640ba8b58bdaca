"""Pages and figures are made again from a run folder alone."""

from __future__ import annotations

import json

import pytest

from pipeline.finished_run import read_finished_run
from pipeline.reporting import rebuild_report, shown_run


def test_the_page_of_a_run_is_made_again_with_its_figures(finished):
    page = finished.single / "report.html"
    before = page.read_text()
    for name in ("report.html", "scores.png", "roc.png"):
        (finished.single / name).unlink(missing_ok=True)

    (written,) = rebuild_report(finished.single)

    assert written == page
    again = page.read_text()
    for row in read_finished_run(finished.single).results[:2]:
        assert f"{row.auc:.3f}" in again
    assert again.count("<tr") == before.count("<tr")
    assert (finished.single / "roc.png").exists()


def test_clips_lead_to_where_the_recordings_are_now(finished, tmp_path):
    run = read_finished_run(finished.single)

    assert shown_run(run, finished.data).data_root == finished.data
    assert shown_run(run, tmp_path / "nowhere").data_root is None


def test_a_grid_has_all_its_pages_again_and_the_leaderboard(finished):
    for page in finished.grid.rglob("*.html"):
        page.unlink()

    pages = rebuild_report(finished.grid)

    assert len(pages) == 4
    board = (finished.grid / "leaderboard.html").read_text()
    for part in finished.grid.glob("*/report.html"):
        assert part.parent.name.replace("=", "%3D") in board


def test_refused_combinations_keep_their_reason_on_the_page(finished):
    board = finished.grid / "leaderboard.csv"
    heading, *_ = rows = board.read_text().splitlines()
    columns = {"encoder": "mfcc", "detector": "gmm", "error": "needs log-mel"}
    refused = ",".join(columns.get(name, "") for name in [*heading.split(","), "error"])
    lines = [f"{heading},error", *(f"{row}," for row in rows[1:]), refused]
    board.write_text("\n".join(lines) + "\n")

    rebuild_report(finished.grid)

    assert "needs log-mel" in (finished.grid / "leaderboard.html").read_text()


def test_logs_of_a_killed_run_are_read_as_far_as_they_are_whole(finished):
    log = finished.single / "log.jsonl"
    epoch = {"event": "epoch", "unit": "valve id_00", "member": "wave/clip/knn", "number": 1}
    losses = {"training_loss": 1.0, "held_out_loss": 2.0, "learning_rate": 0.1}
    outlier = {"event": "training clip unlike the rest", "key": "a.wav", "machine": "valve id_00"}
    outlier |= {"distance": 9.0, "nearest_key": "b.wav"}
    lines = [json.dumps({**epoch, **losses}), json.dumps(outlier), '{"event": "ep']
    log.write_text("\n".join(lines))
    (finished.single / "errors.jsonl").write_text('{"key": "c.wav", "reason": "too short"}\n')

    shown = shown_run(read_finished_run(finished.single))

    assert shown.scores[0].history[0].held_out_loss == 2.0
    assert [clip.key for clip in shown.unlike] == ["a.wav"]
    assert shown.errors == [("c.wav", "too short")]


def test_a_line_of_a_log_that_lacks_something_is_said(finished):
    (finished.single / "log.jsonl").write_text('{"event": "training clip unlike the rest"}\n')

    with pytest.raises(ValueError, match="without key"):
        rebuild_report(finished.single)
