"""A connection with an MQTT broker that publishes one text after the other, each acknowledged."""

from __future__ import annotations

import queue
import ssl
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.watching.credentials import NO_CREDENTIAL, Credential
from pipeline.watching.sink import Undelivered

if TYPE_CHECKING:
    from paho.mqtt.client import Client, DisconnectFlags
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

LIMIT_S = 10.0
"""Seconds that a broker may take to connect, and to acknowledge a text."""
KEEP_ALIVE_S = 30
LOOK_S = 0.2


@dataclass(frozen=True)
class Broker:
    """Where a broker is, and what it wants to know."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    user: Credential = NO_CREDENTIAL
    password: Credential = NO_CREDENTIAL

    def __str__(self) -> str:
        return f"the broker {self.host}:{self.port}"


class MqttConnection:
    """Speaks MQTT 5, where a broker says that it refuses a text; MQTT 3 drops it silently."""

    def __init__(self, broker: Broker, client_id: str, availability: str) -> None:
        """Connect, with `offline` at the topic `availability` as last will; or Undelivered."""
        from paho.mqtt.client import Client, MQTTv5
        from paho.mqtt.enums import CallbackAPIVersion

        self._broker = broker
        self._availability = availability
        self._answers: queue.SimpleQueue[tuple[int, ReasonCode]] = queue.SimpleQueue()
        self._welcome: ReasonCode | None = None
        self._is_answered = threading.Event()
        client = Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5, reconnect_on_failure=False
        )
        if broker.user:
            client.username_pw_set(broker.user.value, broker.password.value or None)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        client.will_set(availability, "offline", qos=1, retain=True)
        client.connect_timeout = LIMIT_S
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._client = client
        self._connect(client)

    def _connect(self, client: Client) -> None:
        """Connect and wait for the welcome; Undelivered without one."""
        try:
            client.connect(self._broker.host, self._broker.port, KEEP_ALIVE_S)
        except (OSError, ValueError) as error:
            raise Undelivered(f"no connection to {self._broker}: {_cause(error)}") from None
        client.loop_start()
        self._is_answered.wait(LIMIT_S)
        if self._welcome is None:
            self._drop()
            raise Undelivered(f"{self._broker} does not answer as an MQTT 5 broker does")
        if self._welcome.is_failure:
            self._drop()
            advice = "look at WATCH_MQTT_USER and WATCH_MQTT_PASSWORD"
            raise Undelivered(f"{self._broker} refuses to connect: {self._welcome}; {advice}")

    @property
    def is_open(self) -> bool:
        return self._client.is_connected()

    def publish(self, topic: str, text: str, *, is_retained: bool = False) -> None:
        """Publish with QoS 1; return once the broker has it, Undelivered otherwise."""
        info = self._client.publish(topic, text.encode(), qos=1, retain=is_retained)
        until = time.monotonic() + LIMIT_S
        while self.is_open and time.monotonic() < until:
            try:
                number, reason = self._answers.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            if number == info.mid and reason.is_failure:
                raise Undelivered(f"{self._broker} refuses the topic {topic}: {reason}")
            if number == info.mid:
                return
        self._drop()
        raise Undelivered(f"{self._broker} did not acknowledge a message")

    def close(self) -> None:
        """Say `offline`, and disconnect."""
        if self.is_open:
            info = self._client.publish(self._availability, "offline", qos=1, retain=True)
            until = time.monotonic() + 1.0
            while self.is_open and not info.is_published() and time.monotonic() < until:
                time.sleep(0.01)
        self._drop()

    def _drop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: Client,
        userdata: Any,
        flags: Any,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._welcome = reason
        self._is_answered.set()

    def _on_disconnect(
        self,
        client: Client,
        userdata: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._is_answered.set()

    def _on_publish(
        self,
        client: Client,
        userdata: Any,
        number: int,
        reason: ReasonCode,
        properties: Properties,
    ) -> None:
        self._answers.put((number, reason))


def _cause(error: OSError | ValueError) -> str:
    """Say why there is no connection, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "--ca-file takes the certificate of your own authority"
        return f"its certificate is not trusted: {error.verify_message}; {advice}"
    if isinstance(error, TimeoutError):
        return f"no answer in {LIMIT_S:g} s"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or 'it broke off'}"
    return getattr(error, "strerror", None) or type(error).__name__
