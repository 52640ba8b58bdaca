"""The sink `--mqtt HOST`: messages, and the state of each machine for Home Assistant.

Topics, below `--mqtt-topic`:

- `messages`: every message, QoS 1, not retained;
- `machines/<machine>`: the state of a machine as JSON, retained;
- `availability`: `online`, or `offline` as the last will, retained.

Home Assistant finds the machines by the topics of its discovery:
https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery
"""

from __future__ import annotations

import hashlib
import re
import socket
import sqlite3
import ssl
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from ground.text import json_text
from ground.versions import OURS, installed_version
from pipeline.exits import UsageError
from pipeline.watching.credentials import Credential
from pipeline.watching.machine_records import MachineRecord, machine_records
from pipeline.watching.message import Message
from pipeline.watching.mqtt_connection import Broker, MqttConnection
from pipeline.watching.sink import Sink

PORT, TLS_PORT = 1883, 8883
LOOK_S = 2.0
"""Seconds between two looks for changed states."""
DISCOVERY = "homeassistant"
PLAIN_MACHINE = re.compile(r"[A-Za-z0-9_]{1,32} [A-Za-z0-9_]{1,32}")


def topic_name(machine: str) -> str:
    """Name a machine by letters, digits, `_` and `-`, as topics and Home Assistant need it.

    `fan id_00` becomes `fan-id_00`. A name with other characters gets a hash, so that two of them
    stay apart.
    """
    name = re.sub(r"[^A-Za-z0-9_]", "-", machine)[:64]
    if PLAIN_MACHINE.fullmatch(machine):
        return name
    return f"{name}-{hashlib.sha256(machine.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


class MqttSink(Sink):
    """Publishes to one broker; a connection that was lost is made anew at the next use."""

    name = "mqtt"

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker, self._topic = broker, topic
        self._client_id = ""
        self._connection: MqttConnection | None = None
        self._published: dict[str, str] = {}
        """Topic to the retained text that the broker got since this connection was made."""
        self._next_look = 0.0

    def open(self, path: Path) -> None:
        """Take a client id that stays, so that a broker never has two connections of one watch.

        Otherwise the last will of the earlier one could come after the `online` of the later one.
        """
        place = f"{socket.gethostname()} {path.resolve()} {self._topic}"
        self._client_id = f"watch-{hashlib.sha256(place.encode()).hexdigest()[:16]}"

    def deliver(self, message: Message) -> None:
        self._connected().publish(f"{self._topic}/messages", message.as_json())

    def idle(self, connection: sqlite3.Connection) -> None:
        """Keep connected, and publish what has changed about the machines."""
        broker = self._connected()
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        for record in machine_records(connection):
            for topic, text in self._retained(record).items():
                if self._published.get(topic) != text:
                    self._published[topic] = text  # a topic that is refused is not tried again
                    broker.publish(topic, text, is_retained=True)

    def close(self) -> None:
        """Say `offline`, and disconnect."""
        if self._connection is not None:
            self._connection.close()

    def _connected(self) -> MqttConnection:
        """Return an open connection, a new one where there is none; Undelivered without one."""
        if self._connection is None or not self._connection.is_open:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            availability = f"{self._topic}/availability"
            self._connection = MqttConnection(self._broker, self._client_id, availability)
            self._published.clear()
            self._next_look = 0.0
            self._connection.publish(availability, "online", is_retained=True)
        return self._connection

    def _retained(self, record: MachineRecord) -> dict[str, str]:
        """Return the retained texts of one machine, by topic: its discovery, and its state."""
        name = topic_name(record.machine)
        state_topic = f"{self._topic}/machines/{name}"
        id = re.sub(r"[^A-Za-z0-9_-]", "_", f"{self._topic}_{name}")
        common = {
            "availability_topic": f"{self._topic}/availability",
            "state_topic": state_topic,
            "device": {"identifiers": [id], "name": record.machine, "manufacturer": OURS},
            "origin": {"name": OURS, "sw_version": installed_version()},
        }
        problem = {
            "name": "Problem",
            "unique_id": f"{id}_problem",
            "device_class": "problem",
            "value_template": "{{ value_json.problem }}",
            "json_attributes_topic": state_topic,
        }
        score = {
            "name": "Anomaly score",
            "unique_id": f"{id}_score",
            "state_class": "measurement",
            "icon": "mdi:waveform",
            "value_template": "{{ value_json.score }}",
        }
        window = record.latest
        state = {
            "machine": record.machine,
            "source": record.source,
            "problem": "ON" if record.alarm_since else "OFF",
            "alarm_since": record.alarm_since or None,
            "sentence": record.sentence,
            "state": record.state,
            "since": record.since,
            "score": window and window.score,
            "threshold": window and window.threshold,
            "p_value": window and window.p_value,
            "verdict": window and window.verdict,
            "at": window and window.at,
        }
        return {
            f"{DISCOVERY}/binary_sensor/{id}/problem/config": json_text({**common, **problem}),
            f"{DISCOVERY}/sensor/{id}/score/config": json_text({**common, **score}),
            state_topic: json_text(state),
        }


def mqtt_sink(
    address: str,
    topic: str,
    *,
    tls: ssl.SSLContext | None,
    user: Credential,
    password: Credential,
) -> MqttSink:
    """Make the sink from HOST or HOST:PORT; UsageError for a wrong address or topic."""
    if find_spec("paho") is None:
        raise UsageError("--mqtt needs paho-mqtt: pip install 'anomalous-sound-pipeline[mqtt]'")
    if "@" in address:
        raise UsageError(
            "--mqtt takes no user or password, because every user of this computer would see them "
            "in the list of processes; set WATCH_MQTT_USER and WATCH_MQTT_PASSWORD instead"
        )
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
        is_address = parts.netloc == address and not parts.path
    except ValueError:
        host, port, is_address = None, None, False
    if not host or port == 0 or not is_address or not address.isprintable() or " " in address:
        raise UsageError(f"--mqtt takes HOST or HOST:PORT, such as localhost:1883; got {address!r}")
    is_topic = topic.isprintable() and topic.strip("/") == topic and topic and topic[0] != "$"
    if not is_topic or set("+# ") & set(topic) or len(topic) > 100:
        raise UsageError(
            f"--mqtt-topic takes letters, digits and words joined by /, without + and #; "
            f"got {topic!r}"
        )
    if password and not user:
        raise UsageError("WATCH_MQTT_PASSWORD is set, and WATCH_MQTT_USER is not")
    default_port = PORT if tls is None else TLS_PORT
    return MqttSink(Broker(host, port or default_port, tls, user, password), topic)
