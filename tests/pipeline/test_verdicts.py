"""The command check: exit codes, flags that do not go together, and what is printed."""

import csv
import json

import pytest
from machine_halls import hum, whistle, write

from pipeline.exits import UsageError
from pipeline.rating import Checked
from pipeline.settings import CheckSettings
from pipeline.verdicts import check_and_print, exit_code


def rows(*verdicts):
    return [Checked("a.wav", "press7", "", verdict) for verdict in verdicts]


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((), 0),
        (("normal", "suspicious"), 0),
        (("normal", "unknown"), 3),
        (("unknown", "anomalous"), 4),
    ],
)
def test_the_exit_code_tells_of_the_worst(verdicts, code):
    assert exit_code(rows(*verdicts)) == code


@pytest.mark.parametrize(
    ("recordings", "flags", "reason"),
    [
        ("a.wav", {"raw": "16000:s16le:1"}, "--raw is for standard input"),
        ("-", {"csv": "a.csv"}, "--page and --csv are written at the end"),
        ("a.wav", {"hop": 1.0}, "--hop is the step of windows"),
        ("a.wav", {"window": 0.0}, "expected seconds above 0"),
        ("a.wav", {"window": float("nan")}, "expected seconds above 0"),
    ],
)
def test_flags_that_do_not_go_together_are_usage_errors(recordings, flags, reason):
    with pytest.raises(UsageError, match=reason):
        check_and_print(recordings, CheckSettings(**flags))


def test_json_csv_and_page_say_the_same(press_hall, tmp_path, capsys):
    new = tmp_path / "new"
    write(new / "good.wav", hum(1))
    write(new / "=bad.wav", whistle(2))
    settings = {"model": press_hall, "machine": "press7", "quiet": True, "json": True}
    files = {"csv": tmp_path / "v.csv", "page": tmp_path / "page.html"}

    code = check_and_print(str(new), CheckSettings(**settings, **files))

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with files["csv"].open(newline="") as file:
        table = list(csv.DictReader(file))
    page = files["page"].read_text()
    assert code == 4
    assert {line["key"]: line["verdict"] for line in lines} == {
        "good.wav": "normal",
        "=bad.wav": "anomalous",
    }
    assert sorted(row["verdict"] for row in table) == ["anomalous", "normal"]
    assert not any(row["key"].startswith("=") for row in table)
    assert page.count("data:image/png;base64,") == 1
    assert page.count("data:audio/mpeg;base64,") == 1


def test_the_worst_windows_are_printed_first(press_hall, tmp_path, capsys):
    import numpy as np

    clip = write(tmp_path / "long.wav", np.concatenate([hum(1), hum(2), whistle(3), hum(4)]))
    settings = CheckSettings(model=press_hall, machine="press7", window=1.0, hop=1.0)

    check_and_print(str(clip), settings)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("long.wav, press7: 4 windows, 1 anomalous")
    assert lines[2].startswith("anomalous  00:02-00:03")
