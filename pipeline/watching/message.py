"""What is told to the outside: an alarm, its end, or a change in the state of a source."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from ground.text import json_text

KINDS = (
    "alarm",
    "alarm_over",
    "no_audio",
    "audio_back",
    "drift",
    "source_failed",
    "source_back",
)


@dataclass(frozen=True)
class Message:
    """What is told to the outside: an alarm, its end, or a state of a source."""

    id: str
    """The same event has the same id after a restart."""
    kind: str
    """One of `KINDS`."""
    machine: str
    """Type and ID as the model names them; "" for a source as a whole."""
    source: str
    """Name of the source."""
    at: str
    """ISO 8601, UTC."""
    sentence: str
    """One plain sentence that a person reads."""
    score: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    false_alarms_per_day: float | None = None
    """Alarms to expect at this setting while the machine is well."""
    reason: str = ""
    """Why the window is judged so, as `check --explain` says it."""
    recording: str = ""
    """The file or stream that it came from."""
    picture: str = ""
    """The PNG, relative to the alarms folder."""
    sound: str = ""
    """The flac, relative to the alarms folder."""

    def as_json(self) -> str:
        """Write the message on one line of JSON."""
        return json_text(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Message:
        """Read a message that `as_json` wrote; fields that this version does not know are left out.

        ValueError for a text that is not such a message.
        """
        values = json.loads(text)
        known = {field.name for field in fields(cls)}
        try:
            message = cls(**{name: value for name, value in values.items() if name in known})
        except (TypeError, AttributeError):
            raise ValueError(f"not a message of a watched machine: {text[:200]!r}") from None
        if message.kind not in KINDS:
            raise ValueError(f"a message of the kind {message.kind!r} is not known here")
        return message
