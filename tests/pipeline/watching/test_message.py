"""A message survives the way through JSON."""

import json

import pytest

from pipeline.watching.message import Message

ALARM = Message(
    "press7-1", "alarm", "press 7", "hall", "2026-11-24T20:00:00Z", "Press 7 is anomalous.", 3.5
)


def test_a_message_is_read_as_it_was_written():
    assert Message.from_json(ALARM.as_json()) == ALARM
    assert "\n" not in ALARM.as_json()


def test_a_message_of_a_later_version_is_read_without_what_is_new():
    later = {**json.loads(ALARM.as_json()), "colour": "red"}

    assert Message.from_json(json.dumps(later)) == ALARM


@pytest.mark.parametrize("text", ['{"id": "1"}', "[1]", '"alarm"', "{", '{"id": "\\u0000"'])
def test_what_is_no_message_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"."):
        Message.from_json(text)


def test_an_unknown_kind_is_refused():
    text = ALARM.as_json().replace('"alarm"', '"applause"')

    with pytest.raises(ValueError, match="applause"):
        Message.from_json(text)
