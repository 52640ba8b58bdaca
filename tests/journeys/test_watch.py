"""A person watches machines: alarms for the faulty one, none for the others."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from machine_halls import hall, hum, whistle, write

from embed.recordings.windows import Window
from pipeline.watching.source import NewWindow
from pipeline.watching.state import WatchState, connect
from pipeline.watching.watch import open_machines, watch
from pipeline.watching.watch_settings import WatchSettings

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ("--settle", "0.1s", "--once")


@pytest.fixture
def incoming(tmp_path):
    for i in range(5):
        write(tmp_path / "incoming" / "press7" / f"{i}.wav", hum(500 + i))
        write(tmp_path / "incoming" / "press8" / f"{i}.wav", whistle(500 + i, 210.0))
    return tmp_path / "incoming"


def told(text):
    return [json.loads(line) for line in text.splitlines()]


def judged(folder=Path("watch")):
    with sqlite3.connect(folder / "watch.sqlite") as connection:
        rows = connection.execute("SELECT machine, verdict FROM windows").fetchall()
    connection.close()
    return rows


def test_a_folder_gives_one_alarm_with_its_sound_and_picture(pipeline, hall_model, incoming):
    first = pipeline("watch", "incoming", "--model", hall_model, *FLAGS)
    again = pipeline("watch", "incoming", "--model", hall_model, *FLAGS)

    (alarm,) = told(first.out)
    assert (first.code, again.code, again.out) == (4, 0, "")
    assert (alarm["kind"], alarm["machine"]) == ("alarm", "press8")
    assert "press8 sounds anomalous in 3 of its last 3 windows: louder than usual" in first.text
    assert "at 2.9 to 3.1 kHz" in alarm["sentence"]
    assert alarm["score"] > alarm["threshold"]
    assert 0 < alarm["p_value"] <= 0.05
    assert "at most 61 false alarms a day" in first.text
    assert "--confirm 5/5 makes it 0.027" in first.text
    sound, rate = soundfile.read(Path("watch/alarms") / alarm["sound"])
    assert (len(sound), rate) == (5 * 16_000, 16_000)
    assert (Path("watch/alarms") / alarm["picture"]).read_bytes().startswith(b"\x89PNG")
    assert sorted(judged()) == 5 * [("press7", "normal")] + 5 * [("press8", "anomalous")]


def test_the_verdicts_are_those_of_check(pipeline, hall_model, incoming):
    pipeline("watch", "incoming", "--model", hall_model, *FLAGS)
    checked = told(pipeline("check", "incoming", "--model", hall_model, "--json", "-q").out)

    with sqlite3.connect("watch/watch.sqlite") as connection:
        scores = sorted(s for (s,) in connection.execute("SELECT score FROM windows"))
    connection.close()
    np.testing.assert_allclose(scores, sorted(row["anomaly_score"] for row in checked), rtol=1e-5)


def test_what_cannot_be_judged_is_said_and_costs_nothing_else(pipeline, hall_model, incoming):
    (incoming / "press7" / "bad.wav").write_bytes(b"RIFF no sound")
    write(incoming / "press9" / "0.wav", hum(1))
    shutil.rmtree(incoming / "press8")

    ran = pipeline("watch", "incoming", "--model", hall_model, *FLAGS)

    assert ran.code == 3
    assert "warning: incoming: press7/bad.wav: " in ran.err
    assert "press9/0.wav: the model" in ran.err
    assert sorted(judged()).count(("press7", "normal")) == 5
    assert pipeline("watch", "incoming", "--model", hall_model, *FLAGS).code == 0


def test_a_machine_that_is_off_is_no_alarm(pipeline, hall_model):
    for i in range(5):
        write(Path(f"incoming/press7/{i}.wav"), 0.003 * whistle(i))

    off = pipeline("watch", "incoming", "--model", hall_model, *FLAGS)
    on = pipeline(
        "watch", "incoming", "--model", hall_model, *FLAGS, "--out", "b", "--off-below=-99"
    )

    assert (off.code, on.code) == (0, 4)


@pytest.mark.slow
def test_quiet_hours_hold_alarms_back(pipeline, hall_model, incoming):
    pipeline("watch", "incoming", "--model", hall_model, *FLAGS, "--quiet-hours", "00:00-23:59:59")

    morning = pipeline("watch", "incoming", "--model", hall_model, *FLAGS)

    assert [message["kind"] for message in told(morning.out)] == ["alarm"]


def test_a_false_alarm_becomes_part_of_the_next_threshold(pipeline, hall_model, incoming):
    alarm = told(pipeline("watch", "incoming", "--model", hall_model, *FLAGS).out)[0]
    shutil.copytree(hall_model, "own")
    hall(Path("newer"), ("press8",), n=25, first=300)

    without_word = pipeline("feedback", alarm["id"])
    word = pipeline("feedback", alarm["id"][:6], "--normal")
    learned_again = pipeline(
        "learn", "newer", "--model", "own", "--recalibrate", "--with-feedback", "watch"
    )

    assert (without_word.code, word.code, learned_again.code) == (2, 0, 0)
    assert f"press8, alarm {alarm['id']}: normal; 5 windows" in word.text
    assert "threshold from 30 new clips" in learned_again.text


@pytest.mark.slow
def test_silence_is_told_by_the_next_look(pipeline, hall_model, incoming):
    pipeline("watch", "incoming", "--model", hall_model, *FLAGS)

    ran = pipeline("watch", "incoming", "--model", hall_model, *FLAGS, "--no-audio", "0.001s")

    assert {(m["kind"], m["machine"]) for m in told(ran.out)} == {
        ("no_audio", "press7"), ("no_audio", "press8"),
    }  # fmt: skip


def test_mistakes_are_one_line_each(pipeline, hall_model, incoming):
    for flags, said in (
        (("--confirm", "9"), "--confirm 9"),
        (("--out", "a"), "another watch keeps its state in a"),
    ):
        Path("a").mkdir(exist_ok=True)
        with holding("a/watch.lock"):
            ran = pipeline("watch", "incoming", "--model", hall_model, *FLAGS, *flags)
        assert ran.err.count("\n") == 1
        assert said in ran.err
        assert ran.code in (1, 2)


def holding(path):
    from filelock import FileLock

    return FileLock(path)


def test_a_stream_is_watched_in_little_memory_until_it_ends(hall_model, tmp_path):
    sound = np.concatenate([hum(900), *[whistle(i) for i in range(4)]])
    raw = (sound * 32767).astype("<i2").tobytes()
    script = (
        "import sys, run_pipeline; code = run_pipeline.main(); "
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script, "watch", "-", "--model", hall_model, "--machine", "press7",
         "--raw", "16000:s16le:1", "--window", "1"],
        check=False, input=raw, capture_output=True, cwd=tmp_path, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip

    (alarm,) = told(done.stdout.decode())
    assert (done.returncode, alarm["machine"], alarm["recording"]) == (0, "press7", "-")
    assert len(judged(tmp_path / "watch")) == 5
    assert done.stderr.decode().splitlines()[-1] == "False"


def started(hall_model, folder, *flags):
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "watch", *flags]
    return subprocess.Popen(
        [*command, "--model", str(hall_model), "--settle", "0.1s"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.slow
def test_several_sources_run_until_they_are_stopped(hall_model, tmp_path):
    (tmp_path / "incoming").mkdir()
    (tmp_path / "sources.toml").write_text(
        '[[source]]\nfolder = "incoming"\n'
        '[[source]]\nname = "camera"\nmachine = "press7"\ncommand = ["false"]\n'
    )
    process = started(hall_model, tmp_path, "sources.toml")
    failed = json.loads(process.stdout.readline())
    for i in range(3):
        write(tmp_path / f"incoming/press8/{i}.wav", whistle(i, 210.0))

    alarm = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)

    assert (failed["kind"], failed["source"]) == ("source_failed", "camera")
    assert "false ended with exit code 1; it is started again" in failed["sentence"]
    assert (alarm["kind"], alarm["machine"], alarm["source"]) == ("alarm", "press8", "incoming")
    assert process.returncode == 0
    assert "Traceback" not in err


class Watching:
    """The machines of a watch, which hear windows of a stream."""

    def __init__(self, model, out, confirm="3/5"):
        self.state = WatchState(connect(out / "watch.sqlite"))
        settings = WatchSettings(model=model, out=out, confirm=confirm)
        self.machines = open_machines(settings, self.state)
        self.n_windows = 0

    def hear(self, *sounds):
        """Return what is told of one window after the other."""
        told = []
        for sound in sounds:
            self.n_windows += 1
            window = Window(sound, float(self.n_windows), self.n_windows + 1.0)
            new = NewWindow("-", "press7", {16_000: window}, 1e9 + self.n_windows)
            outcome = self.machines.stream_window(new)
            self.state.write(outcome, [])
            told += outcome.messages
        return told


def test_drift_is_told_once_and_names_the_remedy(hall_model, tmp_path):
    watching = Watching(hall_model, tmp_path, confirm="100/100")
    watching.hear(*[hum(5000 + i) for i in range(40)])
    other_pitch = [hum(i, pitch=121.5) for i in range(120)]

    told = [m for m in watching.hear(*other_pitch) if m.kind == "drift"]
    again = Watching(hall_model, tmp_path, confirm="100/100").hear(*other_pitch[:80])

    (message,) = told
    assert "press7 has not sounded as it did when it was learned since about 2001-09-09" in (
        message.sentence
    )
    assert f"learn RECORDINGS --model {hall_model} --recalibrate" in message.sentence
    assert not [m for m in again if m.kind == "drift"]


def test_the_sound_goes_on_after_the_alarm(hall_model, tmp_path):
    watching = Watching(hall_model, tmp_path)
    (alarm,) = watching.hear(hum(1), *map(whistle, range(3)))

    watching.hear(*[whistle(i) for i in range(40)])

    sound, _ = soundfile.read(tmp_path / "alarms" / alarm.sound)
    assert len(sound) == (4 + 30) * 16_000


def test_a_state_that_cannot_be_written_stops_nothing(hall_model, incoming, monkeypatch, capsys):
    monkeypatch.chdir(incoming.parent)
    write_state, n_tries = WatchState.write, iter(range(10**6))

    def full_for_a_while(*arguments, **options):
        if next(n_tries) in range(3, 6):
            raise sqlite3.OperationalError("database or disk is full")
        write_state(*arguments, **options)

    monkeypatch.setattr(WatchState, "write", full_for_a_while)
    code = watch("incoming", WatchSettings(model=hall_model, settle="0.1s", once=True))

    shown = capsys.readouterr()
    assert code == 4
    assert [message["kind"] for message in told(shown.out)] == ["alarm"]
    assert shown.err.count("cannot be written: database or disk is full; watching goes on") == 1
    assert "the state is written again" in shown.err
    assert len(judged()) == 10
