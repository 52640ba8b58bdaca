"""The state of a watch: whole or not at all, bounded, and refused where it is another's."""

import sqlite3

import pytest

from pipeline.watching import outbox
from pipeline.watching.message import Message
from pipeline.watching.state import (
    MOST_WINDOWS,
    FileVersion,
    MachineRow,
    Outcome,
    WatchState,
    WindowRow,
    connect,
    find_alarm,
    note_feedback,
    over_id,
)

FILE = FileVersion("hall", "a.wav", 10, 20)


def message(identity="a1", kind="alarm"):
    return Message(identity, kind, "press7", "hall", "2026-11-24T20:00:00+00:00", "It is loud.")


def window(machine="press7"):
    return WindowRow("hall", machine, 0.0, 0.0, 1.0, 2.0, 0.5, "normal", "normal")


@pytest.fixture
def state(tmp_path):
    with connect(tmp_path / "watch.sqlite") as connection:
        yield WatchState(connection)
    connection.close()


def count(state, table):
    return state.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_an_outcome_is_written_as_a_whole(state):
    row = MachineRow("hall", "alarm", 0.0, -30.0, 0.0, {"alarms": {"n": 1}})
    outcome = Outcome(FILE, [window()], {"press7": row}, [message()], {"a1": 10.0})

    state.write(outcome, ["stdout", "mqtt"])

    assert state.is_judged(FILE)
    assert not state.is_judged(FileVersion("hall", "a.wav", 11, 20))
    assert state.machines()["press7"].engine == {"alarms": {"n": 1}}
    assert [count(state, t) for t in ("windows", "alarms", "outbox")] == [1, 1, 2]
    assert find_alarm(state.connection, "a").window_s == 10.0


def test_nothing_of_an_outcome_is_there_when_a_part_of_it_fails(state):
    wrong = WindowRow("hall", "press7", 0.0, 0.0, 1.0, 2.0, 0.5, None, "normal")

    with pytest.raises(sqlite3.IntegrityError):
        state.write(Outcome(FILE, [window(), wrong], {}, [message()]), ["stdout"])

    assert not state.is_judged(FILE)
    assert [count(state, t) for t in ("windows", "alarms", "outbox")] == [0, 0, 0]


def test_an_alarm_ends_and_the_same_alarm_is_there_once(state):
    state.write(Outcome(messages=[message()]), [])
    state.write(Outcome(messages=[message()]), [])
    state.write(Outcome(messages=[message(over_id("a1"), "alarm_over")]), [])

    assert count(state, "alarms") == 1
    (ended,) = state.connection.execute("SELECT ended_at FROM alarms").fetchone()
    assert ended == message().at


def test_messages_of_quiet_hours_come_later_in_their_order(state):
    later = message(over_id("a1"), "alarm_over")
    state.write(Outcome(messages=[message()]), ["stdout"], is_quiet=True)
    state.write(Outcome(messages=[later]), ["stdout"], is_quiet=True)
    before = outbox.n_waiting(state.connection, "stdout")

    released = state.release_held(["stdout"])

    assert before == 0
    assert released == [message(), later]
    assert not state.has_held()
    assert outbox.n_waiting(state.connection, "stdout") == 2


def test_windows_of_a_machine_are_bounded_and_leave_those_of_others(state):
    state.write(Outcome(windows=[window("press8")]), [])

    state.write(Outcome(windows=[window()] * (MOST_WINDOWS + 20)), [])

    assert count(state, "windows") == MOST_WINDOWS + 1


def test_files_that_are_gone_are_forgotten_after_a_while(state):
    state.write(Outcome(FILE), [])
    state.write(Outcome(FileVersion("hall", "b.wav", 1, 1)), [])

    early = state.forget_files(0.0, lambda source, path: False)
    late = state.forget_files(1e10, lambda source, path: path == "b.wav")

    assert (early, late) == (0, 1)
    assert not state.is_judged(FILE)


def test_a_word_on_an_alarm_is_kept(state):
    state.write(Outcome(messages=[message(), message("b2")]), [])

    note_feedback(state.connection, "a1", "normal")

    assert find_alarm(state.connection, "a1").feedback == "normal"
    with pytest.raises(ValueError, match="no alarm whose id begins with 'c'; the newest are b2"):
        find_alarm(state.connection, "c")


def test_a_state_of_a_newer_version_is_refused_in_one_line(tmp_path):
    path = tmp_path / "watch.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(ValueError, match="schema version 99, and this version reads 1; update"):
        connect(path)


def test_a_file_that_is_no_state_is_refused(tmp_path):
    path = tmp_path / "watch.sqlite"
    path.write_bytes(b"no database" * 100)

    with pytest.raises(ValueError, match="not the state of a watch"):
        connect(path)
