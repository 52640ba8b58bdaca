"""What is put into the outbox arrives, in order and at least once, whatever a receiver does."""

import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from alarm_receivers import free_port, web_server
from watched_machines import put, state_file, states

from pipeline.exits import UsageError
from pipeline.watching import outbox
from pipeline.watching.credentials import Credential
from pipeline.watching.delivery import BackOff, Deliveries, sinks_of
from pipeline.watching.delivery_settings import DeliverySettings
from pipeline.watching.sink import Sink, Undelivered

TESTS = Path(__file__).resolve().parents[2]
QUICK = BackOff(0.01, 0.05)


class Recorder(Sink):
    """Keeps ids; fails as often as `failures` says, with these."""

    def __init__(self, name="recorder", failures=()):
        self.name, self.failures, self.ids = name, list(failures), []

    def deliver(self, message):
        if self.failures:
            raise self.failures.pop(0)
        self.ids.append(message.id)


def wait_until(is_true, seconds=10.0):
    until = time.monotonic() + seconds
    while not is_true() and time.monotonic() < until:
        time.sleep(0.01)
    assert is_true()


def delivering(path, sinks, said=None, back_off=QUICK):
    told = said if said is not None else []
    deliveries = Deliveries(path, sinks, back_off=back_off, tell=lambda *line: told.append(line))
    deliveries.start()
    return deliveries


def test_a_server_that_is_down_slow_faulty_or_restarted_gets_all_in_order(tmp_path, monkeypatch):
    monkeypatch.setenv("WATCH_WEBHOOK_SECRET", "k3y")
    path, port, said = state_file(tmp_path), free_port(), []
    put(path, ["a", "b"], "webhook")
    sinks = sinks_of(DeliverySettings(webhook=f"http://127.0.0.1:{port}/s3cret"))
    deliveries = delivering(path, sinks, said)
    wait_until(lambda: states(path)["webhook"].failing_since)

    with web_server(port, answers=[(500, {}), (503, {"Retry-After": "0"})]) as first:
        wait_until(lambda: len(first.ids) == 4)
    put(path, ["c"], "webhook")
    with web_server(port, slow_s=0.05) as second:
        put(path, ["d"], "webhook")
        wait_until(lambda: "d" in second.ids)
        assert deliveries.close(5) == 0

    assert first.ids == ["a", "a", "a", "b"]
    assert second.ids == ["c", "d"]
    assert (states(path)["webhook"].delivered, states(path)["webhook"].problem) == (4, "")
    assert said[0][1].startswith("webhook: no connection to 127.0.0.1: Connection refused; mess")
    assert ("delivered", "webhook: it works again") in said


def test_a_problem_is_told_once_and_no_credential_is_kept(tmp_path, monkeypatch, capfd):
    for name in ("WATCH_WEBHOOK_SECRET", "WATCH_WEBHOOK_TOKEN", "WATCH_WEBHOOK_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}/s3cret")
    path = state_file(tmp_path)
    put(path, ["a"], "webhook")
    deliveries = Deliveries(path, sinks_of(DeliverySettings()), back_off=QUICK)

    deliveries.start()
    time.sleep(0.4)

    assert deliveries.close(5) == 1
    printed = capfd.readouterr()
    assert printed.err.count("Connection refused") == 1
    assert "s3cret" not in printed.out + printed.err
    assert not any(b"s3cret" in each.read_bytes() for each in tmp_path.iterdir())


def test_a_sink_that_hangs_or_breaks_delays_neither_the_others_nor_the_writer(tmp_path):
    path, goes_on = state_file(tmp_path), threading.Event()

    class Hanging(Recorder):
        def deliver(self, message):
            goes_on.wait(30)
            super().deliver(message)

    hanging, well = Hanging("hanging"), Recorder("well")
    broken = Recorder("broken", failures=[RuntimeError("s3cret")])
    deliveries = delivering(path, [hanging, broken, well], said := [])

    started = time.monotonic()
    put(path, ["a", "b"], *deliveries.names)
    assert time.monotonic() - started < 1
    wait_until(lambda: well.ids == broken.ids == ["a", "b"])
    left = deliveries.close(0.2)
    goes_on.set()

    assert left == 2
    assert ("warning", "broken: it failed with RuntimeError; messages are kept, and are tried "
            "again") in said  # fmt: skip


def test_a_message_that_is_refused_holds_up_no_other_and_is_tried_after_a_restart(tmp_path):
    path = state_file(tmp_path)
    put(path, ["bad", "good"], "recorder")
    sink = Recorder(failures=[Undelivered("it answers 400", is_refused=True)] * 5)
    deliveries = delivering(path, [sink], said := [])
    wait_until(lambda: sink.ids == ["good"])
    deliveries.close(5)
    aside = states(path)["recorder"]

    again = Recorder()
    delivering(path, [again]).close(5)

    assert (aside.waiting, aside.refused) == (0, 1)
    assert any("refused 5 times; it is set aside" in text for _, text in said)
    assert again.ids == ["bad"]


def test_a_message_that_cannot_be_read_holds_up_no_other(tmp_path):
    path = state_file(tmp_path)
    put(path, ["a", "b"], "recorder")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE outbox SET message_json = '{' WHERE id = 'a'")
    sink = Recorder()

    deliveries = delivering(path, [sink])
    wait_until(lambda: sink.ids == ["b"])
    deliveries.close(5)

    assert states(path)["recorder"].refused == 1


def test_a_sink_that_failed_before_a_restart_is_well_once_it_delivers(tmp_path):
    path = state_file(tmp_path)
    put(path, ["a"], "recorder")
    delivering(path, [Recorder(failures=[Undelivered("it is down")] * 99)]).close(5)
    before = states(path)["recorder"].problem

    delivering(path, [Recorder()]).close(5)

    assert before == "it is down"
    assert states(path)["recorder"].problem == states(path)["recorder"].failing_since == ""


def test_a_full_outbox_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox, "MOST", 2)
    path = state_file(tmp_path)
    sink = Recorder(failures=[Undelivered("it is down")] * 1000)
    deliveries = delivering(path, [sink], said := [])
    put(path, ["a"], "recorder")
    wait_until(lambda: said)

    put(path, ["b", "c", "d"], "recorder")
    wait_until(lambda: len(said) > 1)
    put(path, ["e"], "recorder")
    time.sleep(0.2)
    deliveries.close(5)

    dropped = [text for _, text in said if "dropped" in text]
    assert dropped == ["recorder: more than 2 messages wait, and the oldest are dropped"]


def test_closing_delivers_what_waits_and_gives_up_at_the_first_failure(tmp_path):
    path = state_file(tmp_path)
    put(path, ["a", "b"], "well", "down")
    well, down = Recorder("well"), Recorder("down", failures=[Undelivered("it is down")] * 99)
    deliveries = delivering(path, [well, down], back_off=BackOff(60, 60))

    started = time.monotonic()
    left = deliveries.close(30)

    assert time.monotonic() - started < 10
    assert well.ids == ["a", "b"]
    assert left == 2


def test_waits_double_up_to_a_longest_and_respect_what_the_receiver_asks():
    back_off = BackOff(1, 60)
    waits = [back_off.after(n, None) for n in range(1, 2000)]

    assert all(0.5 * min(60, 2**n) <= wait <= min(60, 2**n) for n, wait in enumerate(waits))
    assert len(set(waits[10:20])) == 10
    assert back_off.after(1, 100.0) == 100


def kill_again_and_again(path, port, n_kills):
    """Start the process that delivers, and kill it at any moment of its work."""
    rng = random.Random(n_kills)
    command = [sys.executable, str(TESTS / "delivery_worker.py"), path]
    command.append(f"webhook=http://127.0.0.1:{port}/")
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    for _ in range(n_kills):
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        worker.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.15))
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize(
    ("n_kills", "n_messages"), [(3, 60), pytest.param(100, 2000, marks=pytest.mark.faults)]
)
def test_a_kill_loses_nothing_and_repeats_only_what_was_under_way(tmp_path, n_kills, n_messages):
    path = state_file(tmp_path)
    ids = [f"m{number}" for number in range(n_messages)]
    put(path, ids, "webhook")

    with web_server(slow_s=0.004) as server:
        kill_again_and_again(path, server.port, n_kills)
        url = f"http://127.0.0.1:{server.port}/"
        assert delivering(path, sinks_of(DeliverySettings(webhook=url))).close(60) == 0
        received = server.ids

    assert list(dict.fromkeys(received)) == ids
    repeated = [id for id, after in pairwise(received) if id == after]
    assert len(received) == len(ids) + len(repeated)
    assert len(repeated) <= n_kills
    print(f"{n_kills} kills, {len(ids)} messages: none lost, {len(repeated)} repeated")


def test_sinks_are_those_that_are_named():
    named = sinks_of(DeliverySettings(exec="true", webhook="https://example.com/"))

    assert [sink.name for sink in named] == ["exec", "webhook"]
    assert sinks_of(DeliverySettings()) == []
    assert "example" not in repr(Credential("https://example.com/"))


def test_a_file_of_certificates_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")

    for file in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        with pytest.raises(UsageError, match=f"--ca-file {file} cannot be used: "):
            sinks_of(DeliverySettings(webhook="https://example.com/", ca_file=file))
