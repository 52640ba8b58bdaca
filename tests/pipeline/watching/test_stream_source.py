"""Streams: standard input and commands become windows, and what ends a command is said."""

import io
import sys
import threading

import numpy as np
import pytest
import soundfile
from machine_halls import RATE, hum

from embed.recordings.preprocessing import Preprocessing
from embed.recordings.streams import RawFormat
from pipeline.watching.source import Cut
from pipeline.watching.stream_source import StreamSource

CUT = Cut(RATE, 0.5, 0.5, Preprocessing())
COPY = "import sys, shutil; shutil.copyfileobj(open(sys.argv[1], 'rb'), sys.stdout.buffer)"


def heard(source):
    windows = []
    source.run(windows.append, threading.Event())
    return windows


def test_standard_input_is_cut_into_windows(monkeypatch):
    raw = (hum(1, seconds=1.2) * 32767).astype("<i2")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw.tobytes())))
    source = StreamSource("-", CUT, "press7", RawFormat.parse("16000:s16le:1"), clock=lambda: 7.0)

    windows = heard(source)

    assert [(w.machine, w.at, w.by_rate[RATE].start_s) for w in windows] == [
        ("press7", 7.0, 0.0),
        ("press7", 7.0, 0.5),
    ]
    joined = np.concatenate([w.by_rate[RATE].waveform for w in windows])
    np.testing.assert_array_equal(joined, raw[: len(joined)] / np.float32(32768))
    assert not source.restarts


def test_a_command_is_a_stream_and_its_end_is_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", hum(2), RATE)
    script = f"{COPY}; sys.stderr.write('\\x1bno more\\n'); sys.exit(3)"
    source = StreamSource(
        "camera", CUT, command=[sys.executable, "-c", script, str(tmp_path / "a.wav")]
    )
    windows = []

    with pytest.raises(OSError, match=r"exit code 3: \\x1bno more"):
        source.run(windows.append, threading.Event())
    assert len(windows) == 2
    assert source.restarts


def test_a_command_that_is_not_there_is_an_error():
    with pytest.raises(OSError, match="no-such-command"):
        heard(StreamSource("camera", CUT, command=["no-such-command"]))


def test_closing_ends_a_command_that_goes_on():
    script = "import time; print('RIFF', flush=True); time.sleep(60)"
    source = StreamSource("camera", CUT, command=[sys.executable, "-c", script])
    stop, failures = threading.Event(), []

    def run():
        try:
            source.run(failures.append, stop)
        except (OSError, ValueError) as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while source._process is None:
        thread.join(0.01)
    stop.set()
    source.close()
    thread.join(10)

    assert not thread.is_alive()
