"""Pages and figures are made again from a run folder alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from pipeline.finished_run import read_finished_run
from pipeline.reporting import rebuild_report, shown_run

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


@pytest.fixture
def run_and_vectors(finished_jobs, tmp_path):
    """Return a copy of a run by its own name, and of the folder of its vectors."""
    original = finished_jobs.single
    run = shutil.copytree(original, tmp_path / original.name)
    return run, shutil.copytree(finished_jobs.data.parent / "embeddings", tmp_path / "vectors")


def undated(page: Path) -> str:
    """Read a page without its time, and without the folder of the vectors."""
    return re.sub(r"<dd>[^<]*/dev_data-", "<dd>dev_data-", TIME.sub("", page.read_text("utf-8")))


def test_a_page_is_made_again_as_the_run_wrote_it(run_and_vectors):
    run, vectors = run_and_vectors
    before = undated(run / "report.html")
    for name in ("report.html", "scores.png", "roc.png"):
        (run / name).unlink()

    (written,) = rebuild_report(run, cache_dir=vectors)

    assert written == run / "report.html"
    assert "<audio" in before
    assert undated(written) == before
    assert (run / "roc.png").exists()


def test_sounds_are_found_where_the_recordings_are_now(run_and_vectors, finished_jobs, tmp_path):
    run, vectors = run_and_vectors
    before = undated(run / "report.html")
    data = shutil.copytree(finished_jobs.data, tmp_path / "attic")

    rebuild_report(run, data=str(data), cache_dir=vectors, figures="none")

    assert undated(run / "report.html") == before
    assert len(list(vectors.glob("*-wave-*.h5"))) == 1


def test_a_page_without_recordings_has_its_figures_and_says_why(run_and_vectors, tmp_path, capsys):
    run, _ = run_and_vectors

    rebuild_report(run, data=str(tmp_path / "gone"), page_clips=1, figures="none")

    page = (run / "report.html").read_text()
    for row in read_finished_run(run).results[:2]:
        assert f"{row.auc:.3f}" in page
    assert "<audio" not in page
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "no sounds, map and method on it" in said


def test_a_grid_has_all_its_pages_again_and_the_leaderboard(finished):
    for page in finished.grid.rglob("*.html"):
        page.unlink()

    pages = rebuild_report(finished.grid, cache_dir=finished.data.parent / "embeddings")

    assert len(pages) == 4
    board = (finished.grid / "leaderboard.html").read_text()
    for part in finished.grid.glob("*/report.html"):
        assert part.parent.name.replace("=", "%3D") in board
        assert part.read_text().count("<audio") >= 4


def test_refused_combinations_keep_their_reason_on_the_page(finished):
    board = finished.grid / "leaderboard.csv"
    heading, *_ = rows = board.read_text().splitlines()
    columns = {"encoder": "mfcc", "detector": "gmm", "error": "needs log-mel"}
    refused = ",".join(columns.get(name, "") for name in [*heading.split(","), "error"])
    lines = [f"{heading},error", *(f"{row}," for row in rows[1:]), refused]
    board.write_text("\n".join(lines) + "\n")

    rebuild_report(finished.grid, data="gone")

    assert "needs log-mel" in (finished.grid / "leaderboard.html").read_text()


def test_logs_of_a_killed_run_are_read_as_far_as_they_are_whole(finished):
    log = finished.single / "log.jsonl"
    epoch = {"event": "epoch", "unit": "valve id_00", "member": "wave/clip/knn", "number": 1}
    losses = {"training_loss": 1.0, "held_out_loss": 2.0, "learning_rate": 0.1}
    outlier = {"event": "training clip unlike the rest", "key": "a.wav", "machine": "valve id_00"}
    outlier |= {"distance": 9.0, "nearest_key": "b.wav"}
    other = {**outlier, "key": "d.wav", "encoder": "logmel", "pooling": "mean"}
    lines = [*map(json.dumps, ({**epoch, **losses}, outlier, other)), '{"event": "ep']
    log.write_text("\n".join(lines))
    (finished.single / "errors.jsonl").write_text('{"key": "c.wav", "reason": "too short"}\n')

    shown = shown_run(read_finished_run(finished.single))

    assert shown.scores[0].history[0].held_out_loss == 2.0
    assert [clip.key for clip in shown.unlike] == ["a.wav"]
    assert shown.errors == [("c.wav", "too short")]


def test_a_line_of_a_log_that_lacks_something_is_said(finished):
    (finished.single / "log.jsonl").write_text('{"event": "training clip unlike the rest"}\n')

    with pytest.raises(ValueError, match="without key"):
        rebuild_report(finished.single, data="gone")
