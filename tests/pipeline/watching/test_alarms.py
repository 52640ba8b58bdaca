"""Alarms that people trust: confirmed, told once, over, and never from a machine that is off."""

import numpy as np
import pytest

from pipeline.exits import UsageError
from pipeline.watching.alarms import AlarmRules, MachineState, Observation

RULES = AlarmRules(needed=3, of=5, cooldown_s=60.0)
VERDICTS = {"n": "normal", "s": "suspicious", "A": "anomalous", "?": "unknown"}


def told(verdicts: str, rules: AlarmRules = RULES, hop_s: float = 10.0) -> dict[int, list[str]]:
    """What is told, by the number of the window; `o` is a window of a machine that is off."""
    state, changes = MachineState(), {}
    for i, letter in enumerate(verdicts):
        level = -120.0 if letter == "_" else -80.0 if letter == "o" else -30.0
        seen = Observation(i * hop_s, VERDICTS.get(letter, "anomalous"), level, -60.0)
        state, new = state.after(seen, rules, i * hop_s, f"alarm {i}")
        if new:
            changes[i] = new
    return changes


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ("nnAAnAnn", {5: ["alarm"]}),
        ("AnnAnnAnn", {}),
        ("nAsAsnnn", {}),
        ("AAA" + 5 * "n", {2: ["alarm"], 7: ["alarm_over"]}),
        ("AAAnnnnAnnnnn", {2: ["alarm"], 12: ["alarm_over"]}),
        ("AA?A", {3: ["alarm"]}),
    ],
)
def test_an_alarm_needs_3_of_5_and_is_over_after_5_that_are_not_anomalous(verdicts, expected):
    assert told(verdicts) == expected


def test_an_alarm_that_goes_on_is_told_once():
    assert told(100 * "A") == {2: ["alarm"]}


def test_the_next_alarm_waits_for_the_cooldown_and_is_not_lost():
    changes = told("AAAnnnnn" + 12 * "A")

    assert changes == {2: ["alarm"], 7: ["alarm_over"], 13: ["alarm"]}


def test_a_machine_that_is_off_is_no_anomaly():
    assert told(20 * "o") == {}
    assert told("AAoA") == {}


def test_an_alarm_is_over_when_the_machine_is_switched_off():
    assert told("AAAo") == {2: ["alarm"], 3: ["alarm_over"]}


def test_silence_is_told_once_and_so_is_its_end():
    seen = Observation(0.0, "normal", -30.0)
    state, _ = MachineState().after(seen, RULES, 0.0, "")

    told_at = {}
    for now in range(0, 100, 10):
        state, changes = state.checked_for_audio(50.0, float(now), 0.0)
        if changes:
            told_at[now] = changes
    zeros = Observation(100.0, "anomalous", -200.0)
    still_silent, nothing = state.after(zeros, RULES, 100.0, "")
    state, back = still_silent.after(seen, RULES, 110.0, "")

    assert told_at == {50: ["no_audio"]}
    assert (nothing, still_silent.state) == ([], "no audio")
    assert (back, state.state) == (["audio_back"], "normal")


def test_silence_counts_from_the_start_of_the_watch_and_0_is_never():
    state = MachineState(last_audio_at=0.0)

    assert state.checked_for_audio(50.0, 1000.0, since=990.0)[1] == []
    assert state.checked_for_audio(0.0, 1000.0, since=0.0)[1] == []


def test_a_state_survives_json():
    state = MachineState("alarm", 1.0, (True, False), "x", 1.0, None, 2.0, -30.0)

    assert MachineState.from_dict(state.to_dict()) == state


@pytest.mark.parametrize("text", ["3", "0/5", "6/5", "a/b", "3/500", ""])
def test_a_rule_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError, match="--confirm"):
        AlarmRules.parse(text, 0.0)


@pytest.mark.parametrize(("needed", "of"), [(1, 1), (2, 3), (3, 5)])
def test_no_more_false_alarms_come_than_are_expected_at_most(needed, of):
    rules, p = AlarmRules(needed, of, cooldown_s=0.0), 0.1
    draws = np.random.default_rng(0).random(20_000) < p
    n_alarms = sum(
        new == ["alarm"] for new in told("".join("nA"[int(d)] for d in draws), rules).values()
    )

    expected = rules.most_false_alarms_per_day(p, 10.0) * len(draws) * 10.0 / 86_400
    assert 0.3 * expected < n_alarms <= expected + 3 * np.sqrt(expected)


def test_the_cooldown_bounds_the_false_alarms():
    rules = AlarmRules(1, 1, cooldown_s=3590.0)

    assert rules.most_false_alarms_per_day(0.5, 10.0) == 24.0


def test_a_stricter_rule_is_named_where_there_is_one():
    assert AlarmRules(3, 5).stricter(0.05, 10.0, 1.0) == AlarmRules(4, 5)
    assert AlarmRules(1, 1).stricter(0.05, 10.0, 1.0) is None
