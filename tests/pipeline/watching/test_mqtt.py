"""A real broker gets messages and the state of each machine, also after it was away."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alarm_receivers import make_certificates, mosquitto, subscriber
from watched_machines import add_alarm, add_machine, message, put, state_file, states

from pipeline.exits import UsageError
from pipeline.watching import mqtt_connection
from pipeline.watching.delivery import BackOff, Deliveries, sinks_of
from pipeline.watching.delivery_settings import DeliverySettings
from pipeline.watching.mqtt import topic_name

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
QUICK = BackOff(0.02, 0.1)
WORKER = Path(__file__).resolve().parents[2] / "delivery_worker.py"


def wait_until(is_true, seconds=15.0):
    until = time.monotonic() + seconds
    while not is_true() and time.monotonic() < until:
        time.sleep(0.02)
    assert is_true()


def delivering(path, broker, said=None, **settings):
    told = said if said is not None else []
    sinks = sinks_of(DeliverySettings(mqtt=f"127.0.0.1:{broker.port}", **settings))
    deliveries = Deliveries(path, sinks, back_off=QUICK, tell=lambda *line: told.append(line))
    deliveries.start()
    return deliveries


def retained(port, *topics):
    """What a broker keeps below these topics."""
    with subscriber(port, *topics) as received:
        time.sleep(0.3)
    return {topic: text for topic, text, is_retained in received if is_retained}


def test_a_broker_that_was_away_gets_all_in_order_and_the_states_of_now(tmp_path):
    path, said = state_file(tmp_path), []
    add_machine(path, "fan id_00", [1.0, 3.5])

    with mosquitto(tmp_path) as broker:
        deliveries = delivering(path, broker, said, mqtt_topic="hall")
        with subscriber(broker.port, "hall/messages", client_id="reader") as before:
            put(path, ["a"], "mqtt")
            wait_until(lambda: before)
        broker.stop()
        put(path, ["b", "c"], "mqtt")
        add_alarm(path, message("b"))
        wait_until(lambda: states(path)["mqtt"].failing_since)
        broker.start()
        with subscriber(broker.port, "hall/messages", client_id="reader") as after:
            wait_until(lambda: len(after) == 2)
        wait_until(lambda: '"ON"' in retained(broker.port, "hall/#")["hall/machines/fan-id_00"])
        kept = retained(broker.port, "hall/#")
        assert deliveries.close(5) == 0
        assert retained(broker.port, "hall/#")["hall/availability"] == "offline"

    assert [json.loads(text)["id"] for _, text, _ in before + after] == ["a", "b", "c"]
    assert kept["hall/availability"] == "online"
    state = json.loads(kept["hall/machines/fan-id_00"])
    assert (state["score"], state["threshold"], state["verdict"]) == (3.5, 2.0, "anomalous")
    assert state["sentence"] == message("b").sentence
    assert any(f"no connection to the broker 127.0.0.1:{broker.port}" in t for _, t in said)
    assert ("delivered", "mqtt: it works again") in said


def test_home_assistant_finds_a_problem_and_a_score_for_each_machine(tmp_path):
    path = state_file(tmp_path)
    add_machine(path, "fan id_00", [1.0])
    add_machine(path, "press #1/+", [1.0])

    with mosquitto(tmp_path) as broker:
        deliveries = delivering(path, broker)
        wait_until(lambda: len(retained(broker.port, "homeassistant/#")) == 4)
        kept = retained(broker.port, "homeassistant/#", "anomalous-sound/#")
        add_machine(path, "fan id_00", [1.75])
        topic = "anomalous-sound/machines/fan-id_00"
        with subscriber(broker.port, topic) as received:
            wait_until(lambda: any('"score": 1.75' in text for _, text, _ in received))
        deliveries.close(5)

    (config,) = [json.loads(text) for name, text in kept.items() if "fan-id_00/problem" in name]
    assert config["state_topic"] == topic
    assert config["availability_topic"] == "anomalous-sound/availability"
    assert config["device"]["name"] == "fan id_00"
    assert json.loads(kept[topic])["problem"] == "OFF"
    parts = [part for name in kept for part in name.split("/")]
    assert all(set(part).isdisjoint("+# ") for part in parts)


def started_worker(path, broker):
    command = [sys.executable, str(WORKER), path, f"mqtt=127.0.0.1:{broker.port}"]
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[1])}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_a_watch_that_is_killed_is_said_by_its_last_will(tmp_path):
    path = state_file(tmp_path)

    with (
        mosquitto(tmp_path) as broker,
        subscriber(broker.port, "anomalous-sound/availability") as received,
    ):
        watch = started_worker(path, broker)
        wait_until(lambda: [text for _, text, _ in received] == ["online"])
        watch.kill()
        watch.communicate()
        wait_until(lambda: [text for _, text, _ in received] == ["online", "offline"])


def test_a_broker_that_hangs_delays_nothing_and_gets_all_once_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(mqtt_connection, "LIMIT_S", 0.3)
    path = state_file(tmp_path)

    with mosquitto(tmp_path) as broker:
        deliveries = delivering(path, broker, said := [])
        with subscriber(broker.port, "anomalous-sound/messages") as received:
            wait_until(lambda: "anomalous-sound/availability" in retained(broker.port, "#"))
            broker.process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            put(path, ["a", "b"], "mqtt")
            assert time.monotonic() - started < 1
            wait_until(lambda: len(said) >= 2)
            broker.process.send_signal(signal.SIGCONT)
            wait_until(lambda: states(path)["mqtt"].waiting == 0)
            wait_until(lambda: {"a", "b"} <= {json.loads(text)["id"] for _, text, _ in received})
        deliveries.close(5)

    assert "did not acknowledge a message" in said[0][1]


@pytest.mark.faults
def test_brokers_that_come_and_go_and_killed_watches_lose_nothing(tmp_path):
    path, rng, n_rounds = state_file(tmp_path), random.Random(0), 30
    ids = [f"m{number}" for number in range(20 * n_rounds)]

    with mosquitto(tmp_path, "allow_anonymous true\nmax_queued_messages 0") as broker:
        with subscriber(broker.port, "anomalous-sound/messages", client_id="reader"):
            pass
        for number in range(n_rounds):
            watch = started_worker(path, broker)
            put(path, ids[20 * number : 20 * number + 20], "mqtt")
            time.sleep(rng.uniform(0.2, 1.0))
            broker.stop()
            time.sleep(rng.uniform(0.0, 0.2))
            broker.start()
            time.sleep(rng.uniform(0.0, 0.5))
            watch.kill()
            watch.communicate()
        deliveries = delivering(path, broker)
        with subscriber(broker.port, "anomalous-sound/messages", client_id="reader") as received:
            wait_until(lambda: states(path)["mqtt"].waiting == 0, seconds=60)
            wait_until(lambda: len({text for _, text, _ in received}) == len(ids))
        deliveries.close(5)

    arrived = [json.loads(text)["id"] for _, text, _ in received]
    assert list(dict.fromkeys(arrived)) == ids
    n_repeated = len(arrived) - len(ids)
    assert n_repeated <= 2 * n_rounds
    print(f"{n_rounds} kills and stops, {len(ids)} messages: none lost, {n_repeated} repeated")


def test_a_password_and_tls_are_needed_where_the_broker_says_so(tmp_path, monkeypatch):
    certificates = make_certificates(tmp_path)
    made = ["mosquitto_passwd", "-b", "-c", tmp_path / "passwords", "watch", "s3cret"]
    subprocess.run(made, check=True, capture_output=True)
    settings = (
        f"password_file {tmp_path}/passwords\ncertfile {certificates.server[0]}\n"
        f"keyfile {certificates.server[1]}"
    )
    path, told = state_file(tmp_path), []
    put(path, ["a"], "mqtt")
    monkeypatch.setenv("WATCH_MQTT_USER", "watch")

    with mosquitto(tmp_path, settings) as broker:
        for password, ca_file in [("wr0ng", certificates.authority), ("s3cret", None)]:
            monkeypatch.setenv("WATCH_MQTT_PASSWORD", password)
            failing = delivering(path, broker, said := [], mqtt_tls=True, ca_file=ca_file)
            wait_until(said.copy)
            assert failing.close(5) == 1
            told += said
        fine = delivering(path, broker, mqtt_tls=True, ca_file=certificates.authority)
        wait_until(lambda: states(path)["mqtt"].waiting == 0)
        fine.close(5)

    texts = " ".join(text for _, text in told)
    assert "refuses to connect: Not authorized; look at WATCH_MQTT_USER" in texts
    assert "its certificate is not trusted: unable to get local issuer certificate" in texts
    written = [each.read_bytes() for each in tmp_path.glob("watch.sqlite*")]
    assert not any(word in texts.encode() + b"".join(written) for word in (b"s3cret", b"wr0ng"))


def test_a_topic_that_the_broker_refuses_is_a_failed_delivery(tmp_path):
    (tmp_path / "acl").write_text("topic write anomalous-sound/availability\n")
    path, said = state_file(tmp_path), []
    put(path, ["a"], "mqtt")

    with mosquitto(tmp_path, f"allow_anonymous true\nacl_file {tmp_path}/acl") as broker:
        deliveries = delivering(path, broker, said)
        wait_until(lambda: said)

        assert deliveries.close(5) == 1

    assert "refuses the topic anomalous-sound/messages: Not authorized" in said[0][1]


@pytest.mark.parametrize(
    ("address", "topic", "expected"),
    [
        ("user:s3cret@host", "a", "takes no user or password"),
        ("host:0", "a", "takes HOST or HOST:PORT"),
        ("host:x", "a", "takes HOST or HOST:PORT"),
        ("mqtt://host", "a", "takes HOST or HOST:PORT"),
        ("host", "a/#", "--mqtt-topic takes"),
        ("host", "/a", "--mqtt-topic takes"),
        ("host", "", "--mqtt-topic takes"),
    ],
)
def test_an_address_or_topic_that_cannot_be_one_is_refused(address, topic, expected):
    with pytest.raises(UsageError, match=expected) as refused:
        sinks_of(DeliverySettings(mqtt=address, mqtt_topic=topic))

    assert "s3cret" not in str(refused.value)


def test_names_of_machines_stay_apart_as_topics():
    names = ["fan id_00", "fan-id_00", "fan/id_00", "fan  id_00", "füan id_00", "f" * 200, ""]

    assert topic_name("fan id_00") == "fan-id_00"
    assert len({topic_name(name) for name in names}) == len(names)
