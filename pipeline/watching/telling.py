"""What happened to a machine or a source, as messages that a person reads."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from pipeline.rating import Checked
from pipeline.watching.alarms import AlarmRules, Change, MachineState
from pipeline.watching.listening import Heard
from pipeline.watching.message import Message
from pipeline.watching.state import iso, over_id


def event_id(*parts: str) -> str:
    """Make an id of what identifies an event, so that it is the same after a restart."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def duration(seconds: float) -> str:
    """Write a duration for a person: `40 seconds`, `12 minutes`, `3.5 hours`."""
    for unit, length in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.0f} seconds"


def alarm(
    heard: Heard, described: Checked, state: MachineState, rules: AlarmRules, source: str
) -> Message:
    """Tell that an alarm has begun; its picture and sound are added where they are kept."""
    remarks = " ".join(f"{text[0].upper()}{text[1:]}" for text in described.remarks)
    reason = described.reason
    threshold, promise = heard.judge.threshold, heard.judge.false_alarms
    counted = f"{sum(state.recent)} of its last {len(state.recent)} windows"
    return Message(
        id=state.alarm_id,
        kind="alarm",
        machine=heard.machine,
        source=source,
        at=iso(state.alarm_since),
        sentence=f"{heard.machine} sounds anomalous in {counted}{': ' if reason else ''}{reason}. "
        f"{remarks}".strip(),
        score=heard.row.anomaly_score,
        threshold=threshold.value if threshold else None,
        p_value=heard.row.p_value,
        false_alarms_per_day=rules.most_false_alarms_per_day(promise, heard.hop_s),
        reason="; ".join(filter(None, [reason, *described.remarks])),
        recording=heard.row.key,
    )


def change_of_machine(
    change: Change,
    machine: str,
    source: str,
    before: MachineState,
    state: MachineState,
    at: float,
    recording: str = "",
) -> Message:
    """Tell that an alarm is over, that nothing is heard, or that something is heard again."""
    if change == "alarm_over":
        ended = "was switched off" if state.state == "off" else "sounds normal again"
        identity = over_id(before.alarm_id)
        sentence = f"{machine} {ended}, after {duration(max(0.0, at - before.alarm_since))}."
    elif change == "no_audio":
        identity = event_id(machine, "no_audio", iso(before.last_audio_at or 0.0))
        silent_for = duration(at - (before.last_audio_at or at))
        sentence = (
            f"Nothing was heard of {machine} for {silent_for}: is its microphone connected, and "
            "does it still record?"
        )
    else:
        identity = event_id(machine, "audio_back", iso(before.last_audio_at or 0.0))
        sentence = f"{machine} is heard again."
    return Message(identity, change, machine, source, iso(at), sentence, recording=recording)


def drift(
    machine: str,
    source: str,
    at: float,
    since: float | None,
    *,
    model: Path,
    identity: str,
) -> Message:
    """Tell that a machine no longer sounds like its training recordings, and what to do."""
    when = datetime.fromtimestamp(at if since is None else since).astimezone()
    sentence = (
        f"{machine} has not sounded as it did when it was learned since about "
        f"{when:%Y-%m-%d %H:%M}: the machine, its surroundings or its microphone may have "
        "changed. If it is well, record normal clips of it as it is now, and run: learn RECORDINGS "
        f"--model {model} --recalibrate"
    )
    return Message(identity, "drift", machine, source, iso(at), sentence)


def source_failed(source: str, reason: str, at: float, *, restarts: bool) -> Message:
    """Tell that a source died."""
    then = "; it is started again, less and less often" if restarts else ""
    identity = event_id(source, "source_failed", iso(at))
    sentence = f"The source {source} failed: {reason}{then}."
    return Message(identity, "source_failed", "", source, iso(at), sentence, reason=reason)


def source_back(source: str, at: float) -> Message:
    """Tell that a source works again."""
    identity = event_id(source, "source_back", iso(at))
    return Message(
        identity, "source_back", "", source, iso(at), f"The source {source} works again."
    )
