"""The outbox keeps messages for each sink, in order, and within a bound."""

import sqlite3
from contextlib import closing

from watched_machines import message, put, state_file, states

from pipeline.watching import outbox


def test_a_message_is_put_by_the_transaction_that_raises_the_alarm(tmp_path):
    path = state_file(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        outbox.put(connection, message("a"), ["exec", "mqtt"])
        connection.rollback()

    assert states(path) == {}


def test_each_sink_gets_its_messages_in_order_and_an_id_once(tmp_path):
    path = state_file(tmp_path)
    put(path, ["b", "a", "b", "c"], "exec", "mqtt")
    given = []

    with closing(sqlite3.connect(path)) as connection:
        while waiting := outbox.next_of(connection, "exec"):
            given.append(waiting.message_json)
            outbox.mark_delivered(connection, "exec", waiting.number)

    assert given == [message(id).as_json() for id in "bac"]
    assert states(path)["exec"].delivered == 3
    assert states(path)["mqtt"].waiting == 3


def test_the_oldest_message_makes_room_and_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "MOST", 3)
    path = state_file(tmp_path)

    put(path, ["a", "b", "c", "d", "e"], "exec")

    with closing(sqlite3.connect(path)) as connection:
        assert outbox.next_of(connection, "exec").message_json == message("c").as_json()
    assert (states(path)["exec"].waiting, states(path)["exec"].dropped) == (3, 2)


def test_the_last_messages_are_remembered_also_when_they_are_delivered(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "REMEMBERED", 2)
    path = state_file(tmp_path)

    put(path, ["a", "b", "c", "b"])

    with closing(sqlite3.connect(path)) as connection:
        assert outbox.told(connection) == [message("c").as_json(), message("b").as_json()]


def test_a_message_that_is_set_aside_holds_up_no_other_and_can_be_tried_again(tmp_path):
    path = state_file(tmp_path)
    put(path, ["a", "b"], "exec")

    with closing(sqlite3.connect(path)) as connection:
        first = outbox.next_of(connection, "exec")
        outbox.set_aside(connection, first.number, "it answers 400")
        second = outbox.next_of(connection, "exec")
        aside = outbox.states(connection)[0]
        outbox.try_refused_again(connection, "exec")

        assert second.message_json == message("b").as_json()
        assert (aside.waiting, aside.refused) == (1, 1)
        assert outbox.next_of(connection, "exec") == first


def test_a_failing_sink_says_since_when_until_it_works(tmp_path):
    path = state_file(tmp_path)

    with closing(sqlite3.connect(path)) as connection:
        outbox.mark_failed(connection, "mqtt", "it is down")
        since = outbox.states(connection)[0].failing_since
        outbox.mark_failed(connection, "mqtt", "it is down still")
        failing = outbox.states(connection)[0]
        outbox.mark_well(connection, "mqtt")

        assert since
        assert (failing.failing_since, failing.problem) == (since, "it is down still")
        assert outbox.states(connection)[0].failing_since == ""


def test_creating_the_tables_again_changes_nothing(tmp_path):
    path = state_file(tmp_path)
    put(path, ["a"], "exec")

    with closing(sqlite3.connect(path)) as connection:
        outbox.create_table(connection)

    assert states(path)["exec"].waiting == 1
