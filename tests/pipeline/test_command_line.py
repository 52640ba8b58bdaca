"""The command line: readable help, one exit code per kind of error, one line per error."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import command_line
from pipeline.exits import FAILED, USAGE

ROOT = Path(__file__).resolve().parents[2]


def main(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["run_pipeline.py", *map(str, arguments)])
    return command_line.main()


def test_help_is_fast_and_fits_80_columns():
    seconds = []
    for _ in range(3):
        started = time.process_time(), os.times().children_user + os.times().children_system
        shown = subprocess.run(
            [sys.executable, ROOT / "run_pipeline.py", "--help"],
            env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        seconds.append(os.times().children_user + os.times().children_system - started[1])

    assert min(seconds) < 1.0  # of processor time; 0.5 s on an idle core
    assert max(map(len, shown.splitlines())) <= 80
    for word in ("--data", "--system", "--false-alarms", "learn", "check", "evaluate", "embed"):
        assert word in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "nowhere"),
        ("--embeddings", "nowhere.h5"),
        ("--config", "nowhere"),
        ("--weights", "nowhere.pth"),
        ("evaluate", "nowhere"),
        ("embed", "--data", "nowhere"),
        ("embed", "--encoder", "panns", "--weights", "nowhere"),
    ],
)
def test_a_path_that_is_not_there_has_one_exit_code(monkeypatch, tmp_path, capsys, arguments):
    monkeypatch.chdir(tmp_path)

    assert main(monkeypatch, *arguments) == USAGE
    err = capsys.readouterr().err
    assert "nowhere" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (MemoryError(), "error: MemoryError"),
        (MemoryError("Unable to allocate 9 TiB\nfor an array"), "Unable to allocate 9 TiB for an"),
        (RecursionError("maximum depth"), "error: maximum depth"),
        (OSError(28, os.strerror(28), "a.h5"), "error: a.h5: the disk is full; free some space"),
        (ValueError("[/red]\x1b[31m"), r"error: [/red]\x1b[31m"),
    ],
)
def test_every_error_is_one_line_without_markup_or_escapes(monkeypatch, capsys, error, shown):
    def fail(_):
        raise error

    monkeypatch.setattr("pipeline.job.run_job", fail)

    assert main(monkeypatch) == FAILED
    err = capsys.readouterr().err
    assert shown in err
    assert err.count("\n") == 1
