"""The flags of `watch` that say where alarms go, and where the page is served."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pipeline.flags import Flag

ALARMS, PAGE = "Where alarms go", "Page"


@dataclass(frozen=True, kw_only=True)
class DeliverySettings:
    """Where messages are delivered. Credentials are no flags; see `credentials.py`."""

    exec: Annotated[
        str,
        Flag(
            "--exec",
            ALARMS,
            "Start this command for each message, which is JSON on its standard input.",
        ),
    ] = ""
    webhook: Annotated[str, Flag("--webhook", ALARMS, "POST each message to this address.")] = ""
    mqtt: Annotated[
        str,
        Flag(
            "--mqtt", ALARMS, "HOST or HOST:PORT of an MQTT broker; needs the extra [bold]mqtt[/]."
        ),
    ] = ""
    mqtt_tls: Annotated[bool, Flag("--mqtt-tls", ALARMS, "Speak TLS with the broker.")] = False
    mqtt_topic: Annotated[
        str, Flag("--mqtt-topic", ALARMS, "First part of every topic; one per watch.")
    ] = "anomalous-sound"
    ca_file: Annotated[
        Path | None,
        Flag("--ca-file", ALARMS, "PEM of your own certificate authority, for webhook and MQTT."),
    ] = None

    page: Annotated[
        int | None, Flag("--page", PAGE, "Serve a page of the machines at this port.", least=0)
    ] = None
    page_address: Annotated[
        str,
        Flag(
            "--page-address",
            PAGE,
            "Address to serve it at; one other than loopback needs WATCH_PAGE_TOKEN.",
        ),
    ] = "127.0.0.1"
    page_names: Annotated[
        str,
        Flag("--page-names", PAGE, "More host names by which browsers reach it, comma-separated."),
    ] = ""
