"""A microphone, with a stand-in for PortAudio."""

import sys
import threading
import time
from types import ModuleType

import numpy as np
import pytest
from machine_halls import RATE, hum

from embed.recordings.preprocessing import Preprocessing
from pipeline.watching.microphone import MicrophoneSource
from pipeline.watching.source import Cut

CUT = Cut(RATE, 0.5, 0.5, Preprocessing(channel=1))


class PortAudioError(Exception):
    """As sounddevice raises it."""


@pytest.fixture
def port_audio(monkeypatch):
    """A computer with one microphone of two channels at 32 kHz; blocks are fed by the test."""
    audio = ModuleType("sounddevice")
    audio.opened, audio.closed = [], threading.Event()

    class InputStream:
        def __init__(self, **options):
            audio.opened.append(options)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            audio.closed.set()

    def query_devices(device, kind):
        if device not in (None, "USB", 2):
            raise ValueError(f"No input device matching {device!r}")
        return {"default_samplerate": 32_000.0, "max_input_channels": 2}

    audio.InputStream, audio.query_devices = InputStream, query_devices
    audio.PortAudioError = PortAudioError
    monkeypatch.setitem(sys.modules, "sounddevice", audio)
    return audio


def test_blocks_become_windows_of_the_channel_that_the_model_takes(port_audio, capsys):
    source = MicrophoneSource("mic", CUT, "press7", "USB", clock=lambda: 7.0)
    windows, stop = [], threading.Event()
    thread = threading.Thread(target=source.run, args=(windows.append, stop))
    thread.start()
    while not port_audio.opened:
        time.sleep(0.01)
    (options,) = port_audio.opened
    sound = np.stack([np.zeros(64_000), hum(1, seconds=2.0, rate=32_000)], axis=1)
    buffer = np.empty((1000, 2), np.float32)
    for block in sound.reshape(-1, 1000, 2):
        buffer[:] = block
        options["callback"](buffer, 1000, None, "input overflow" if len(windows) < 2 else None)
    end = time.monotonic() + 10
    while len(windows) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    stop.set()
    thread.join(10)

    assert {k: options[k] for k in ("samplerate", "device", "channels", "dtype")} == {
        "samplerate": 32_000, "device": "USB", "channels": 2, "dtype": "float32",
    }  # fmt: skip
    assert [(w.machine, w.at) for w in windows[:3]] == [("press7", 7.0)] * 3
    assert np.std(windows[0].by_rate[RATE].waveform) > 0.01
    assert port_audio.closed.is_set()
    assert capsys.readouterr().err.count("samples of the microphone are lost") == 1


def test_a_microphone_that_gives_nothing_has_failed(port_audio):
    source = MicrophoneSource("mic", CUT, device="2", no_samples_s=0.1)

    with pytest.raises(OSError, match="the microphone 2 gives no samples"):
        source.run(lambda item: None, threading.Event())
    assert port_audio.opened[0]["device"] == 2


def test_a_microphone_that_is_not_there_is_an_error(port_audio):
    with pytest.raises(OSError, match="microphone webcam: No input device matching"):
        MicrophoneSource("mic", CUT, device="webcam").run(lambda item: None, threading.Event())


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    with pytest.raises(OSError, match="libportaudio2"):
        MicrophoneSource("mic", CUT).run(lambda item: None, threading.Event())
