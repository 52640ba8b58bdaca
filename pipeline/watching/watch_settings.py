"""The flags of `watch`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pipeline.flags import HOW, IN, JUDGE, OUT, Flag, OutputFlags
from pipeline.watching.delivery_settings import DeliverySettings

TRUST = "Alarms"


@dataclass(frozen=True, kw_only=True)
class WatchSettings(OutputFlags, DeliverySettings):
    """Every flag of `watch`."""

    model: Annotated[Path, Flag("--model -m", IN, "Folder of a model, or of a run.")] = Path(
        "model"
    )
    machine: Annotated[
        str, Flag("--machine", IN, "Machine of the recordings, where no folder says it.")
    ] = ""
    window: Annotated[
        float | None,
        Flag("--window", IN, "Seconds of a window; as the model learned it, or 10 for a stream."),
    ] = None
    hop: Annotated[
        float | None, Flag("--hop", IN, "Seconds from window to window; a whole one by default.")
    ] = None
    raw: Annotated[
        str, Flag("--raw", IN, "Standard input is raw samples, such as 16000:s16le:1.")
    ] = ""
    settle: Annotated[
        str, Flag("--settle", IN, "A file is finished when it has not changed for so long.")
    ] = "3s"
    once: Annotated[
        bool, Flag("--once", IN, "Judge what is new in a folder, and end: for cron.")
    ] = False

    confirm: Annotated[
        str, Flag("--confirm", TRUST, "An alarm needs 3 anomalous windows of 5.")
    ] = "3/5"
    cooldown: Annotated[
        str, Flag("--cooldown", TRUST, "Time from the end of an alarm to the next at least.")
    ] = "10m"
    quiet_hours: Annotated[
        str,
        Flag("--quiet-hours", TRUST, "Hold messages back, such as 22:00-06:00, local time."),
    ] = ""
    off_below: Annotated[
        str,
        Flag(
            "--off-below",
            TRUST,
            "The machine is off below this level in dBFS; auto: 10 dB below its quietest normal "
            "recording; none.",
        ),
    ] = "auto"
    no_audio: Annotated[
        str,
        Flag(
            "--no-audio",
            TRUST,
            "Tell when nothing was heard for so long, 0: never; 10m by default, never for folders.",
        ),
    ] = ""

    out: Annotated[Path, Flag("--out", OUT, "Where state and sounds are kept.")] = Path("watch")
    keep_sound: Annotated[
        str, Flag("--keep-sound", OUT, "Sounds and pictures of alarms, at most; 0: none.")
    ] = "1GB"

    device: Annotated[str, Flag("--device", HOW, "cpu, cuda or cuda:0.")] = "cpu"
    offline: Annotated[bool, Flag("--offline", HOW, "Never use the network.")] = False
    trust_classes: Annotated[
        bool, Flag("--trust-classes", JUDGE, "Import the classes that a model names.")
    ] = False

    not_flags: ClassVar[frozenset[str]] = frozenset({"json", "scores"})
