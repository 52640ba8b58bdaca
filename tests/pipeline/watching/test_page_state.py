"""What the page shows is what the state file says, as text that disturbs nothing."""

import json
import sqlite3
from contextlib import closing

import pytest
from watched_machines import add_alarm, add_machine, ago, message, put, state_file

from pipeline.watching import outbox
from pipeline.watching.page_state import PageState


def test_machines_alarms_and_deliveries_are_shown(tmp_path):
    path = state_file(tmp_path)
    add_machine(path, "fan id_00", [1.0, 3.0], every_s=60)
    add_machine(path, "fan id_02", state="off", level_db=None)
    add_alarm(path, message("old", at=ago(900)), ended_at=ago(800), feedback="normal")
    add_alarm(path, message("new", at=ago(60), score=3.0, sound="a/new.flac"))
    put(path, ["new"], "webhook")

    state = json.loads(PageState(path).as_json("hour"))

    first, second = state["machines"]
    assert (first["alarm_since"], first["latest"]["score"]) == (ago(60), 3.0)
    assert [point[1:] for point in first["points"]] == [[1.0, 0], [3.0, 2]]
    assert (second["state"], second["latest"], second["points"]) == ("off", None, [])
    assert [(a["id"], a["ended_at"], a["feedback"]) for a in state["alarms"]] == [
        ("new", "", ""),
        ("old", ago(800), "normal"),
    ]
    assert state["alarms"][0]["sound"] == "a/new.flac"
    assert state["deliveries"][0]["waiting"] == 1


def test_what_was_told_besides_alarms_is_shown(tmp_path):
    path = state_file(tmp_path)
    put(path, ["alarm"], "exec")
    with closing(sqlite3.connect(path)) as connection, connection:
        for kind in ("drift", "source_failed"):
            outbox.put(connection, message(kind, kind=kind), ["exec"])

    news = json.loads(PageState(path).as_json("hour"))["news"]

    assert [each["kind"] for each in news] == ["source_failed", "drift"]


def test_control_characters_and_damaged_messages_disturb_nothing(tmp_path):
    path = state_file(tmp_path)
    add_machine(path, "fan\u202e id_00", [float("inf"), 1.0])
    add_alarm(path, message("a", sentence="\x1b[31m"))
    add_alarm(path, message("b"))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alarms SET message_json = '{' WHERE id = 'b'")

    state = json.loads(PageState(path).as_json("hour"))

    assert state["machines"][0]["machine"] == "fan\\u202e id_00"
    assert {alarm["id"]: alarm.get("sentence") for alarm in state["alarms"]} == {
        "a": "\\x1b[31m",
        "b": None,
    }


def test_a_state_file_that_is_not_there_yet_is_read_once_it_is(tmp_path):
    state = PageState(tmp_path / "watch.sqlite")

    with pytest.raises(sqlite3.Error):
        state.as_json("hour")
    state_file(tmp_path)

    assert json.loads(state.as_json("hour"))["machines"] == []
