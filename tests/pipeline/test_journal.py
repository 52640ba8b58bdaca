"""A clip that is left out is said and remembered once for each reason."""

from pipeline.journal import Journal


def test_a_clip_is_said_once_for_each_reason(capsys):
    journal = Journal()

    for _ in range(2):
        journal.leave_out("a.wav", "too short")
    journal.leave_out("a.wav", "silent")

    assert journal.left_out == [("a.wav", "too short"), ("a.wav", "silent")]
    assert capsys.readouterr().err.count("too short") == 1


def test_control_characters_of_a_name_do_not_reach_the_screen(capsys):
    Journal().leave_out("a\x1b[31m.wav", "too short")

    assert "\x1b[31m.wav" not in capsys.readouterr().err
