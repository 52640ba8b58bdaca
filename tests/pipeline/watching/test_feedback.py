"""A person's word on an alarm is kept beside its windows."""

import numpy as np
import pytest
import soundfile

from pipeline.watching.feedback import give_feedback, normal_windows
from pipeline.watching.message import Message
from pipeline.watching.state import Outcome, WatchState, connect


@pytest.fixture
def watched(tmp_path):
    alarm = Message(
        "a1b2", "alarm", "fan id_00", "hall", "2026-11-24T20:00:00+00:00", "Loud.", sound="x.flac"
    )
    with connect(tmp_path / "watch.sqlite") as connection:
        WatchState(connection).write(Outcome(messages=[alarm], window_s={"a1b2": 0.5}), [])
    connection.close()
    (tmp_path / "alarms").mkdir()
    samples = np.arange(1300, dtype=np.int16)
    soundfile.write(tmp_path / "alarms" / "x.flac", samples, 1000)
    return tmp_path


def test_the_windows_of_an_alarm_are_kept_under_the_word(watched):
    alarm, kept = give_feedback("a1", "normal", watched)

    assert (alarm.id, alarm.feedback) == ("a1b2", "normal")
    assert normal_windows(watched, "fan id_00") == [("a1b2", path) for path in kept]
    pieces = [soundfile.read(path, dtype="int16")[0] for path in kept]
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(1000))


def test_a_second_word_replaces_the_first(watched):
    give_feedback("a1b2", "normal", watched)
    _, kept = give_feedback("a1b2", "anomalous", watched)

    assert normal_windows(watched, "fan id_00") == []
    assert [path.parent.name for path in kept] == ["anomalous"] * 2


def test_a_word_is_kept_where_the_sound_is_gone(watched):
    (watched / "alarms" / "x.flac").unlink()

    assert give_feedback("a1b2", "normal", watched)[1] == []


def test_where_there_is_no_watch_it_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no watch in"):
        give_feedback("a1", "normal", tmp_path)
    with pytest.raises(FileNotFoundError, match="--with-feedback"):
        normal_windows(tmp_path, "press7")
