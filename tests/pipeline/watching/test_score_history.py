"""Scores over time are kept at the resolution of a drawing, whatever the number of windows."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from watched_machines import add_machine, state_file

from pipeline.watching import score_history
from pipeline.watching.score_history import POINTS, ScoreHistory, first_part, part_s


def test_a_point_is_the_highest_score_and_the_worst_verdict_of_its_part(tmp_path):
    path = state_file(tmp_path)
    add_machine(path, "fan id_00", [1.0, 9.0, 1.5], every_s=0)
    add_machine(path, "fan id_02", [1.0])
    history = ScoreHistory()

    with closing(sqlite3.connect(path)) as connection:
        history.read(connection)
        add_machine(path, "fan id_02", [1.25], every_s=0)
        history.read(connection)

    now = datetime.now(UTC)
    assert [(p.score, p.severity) for p in history.points("fan id_00", "day", now)] == [(9.0, 2)]
    assert [(p.score, p.severity) for p in history.points("fan id_02", "day", now)] == [(1.25, 0)]
    assert history.points("fan id_04", "day", now) == []


def test_a_year_of_windows_takes_no_more_room_than_the_drawings(tmp_path):
    path = state_file(tmp_path)
    add_machine(path, "fan id_00", [1.0] * 3000, every_s=900)
    history = ScoreHistory()

    with closing(sqlite3.connect(path)) as connection:
        history.read(connection)

    now = datetime.now(UTC)
    shown = history.points("fan id_00", "week", now)
    assert sum(map(len, history._points.values())) <= 3 * 2 * POINTS
    assert POINTS - 2 <= len(shown) <= POINTS
    assert first_part("week", now) <= shown[0].part < shown[-1].part
    assert shown[-1].part * part_s("week") == pytest.approx(now.timestamp(), abs=part_s("week"))


def test_only_the_newest_windows_are_read_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(score_history, "LOOKED_BACK", 1)
    path = state_file(tmp_path)
    add_machine(path, "fan id_00", [9.0, 1.0], every_s=0)
    history = ScoreHistory()

    with closing(sqlite3.connect(path)) as connection:
        history.read(connection)

    assert [p.score for p in history.points("fan id_00", "hour", datetime.now(UTC))] == [1.0]
