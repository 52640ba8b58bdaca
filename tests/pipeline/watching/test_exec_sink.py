"""A command gets each message on its standard input, without a shell and without our secrets."""

import json
import sys
import time

import pytest
from watched_machines import message

from pipeline.exits import UsageError
from pipeline.watching.exec_sink import ExecSink, exec_sink
from pipeline.watching.sink import Undelivered


def test_a_command_gets_the_message_and_no_credential(tmp_path, monkeypatch):
    monkeypatch.setenv("WATCH_MQTT_PASSWORD", "s3cret")
    kept = tmp_path / "$(kept); 'x'"
    code = "import os, sys; open(sys.argv[1], 'w').write(sys.stdin.read() + repr(os.environ))"

    ExecSink([sys.executable, "-c", code, str(kept)]).deliver(message("ä", sentence="a\nb"))

    line, _, environment = kept.read_text().partition("\n")
    assert json.loads(line)["id"] == "ä"
    assert json.loads(line)["sentence"] == "a\nb"
    assert "s3cret" not in environment


def test_a_command_that_fails_or_cannot_be_started_is_a_failed_delivery():
    with pytest.raises(Undelivered, match="false ended with exit code 1"):
        ExecSink(["false"]).deliver(message("a"))
    with pytest.raises(Undelivered, match="/no/such cannot be started: No such file"):
        ExecSink(["/no/such"]).deliver(message("a"))


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    late = tmp_path / "late"
    script = f"(sleep 1; touch {late}) & sleep 60"
    started = time.monotonic()

    with pytest.raises(Undelivered, match=r"sh ran longer than 0\.2 s"):
        ExecSink(["sh", "-c", script], limit_s=0.2).deliver(message("a"))

    assert time.monotonic() - started < 5
    time.sleep(1.1)
    assert not late.exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [("no-such-program x", "no such program"), ("'a", "No closing quotation"), (" ", "no command")],
)
def test_a_command_that_cannot_work_is_refused_at_the_start(command, expected):
    with pytest.raises(UsageError, match=expected):
        exec_sink(command)
