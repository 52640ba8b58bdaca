"""A microphone, through sounddevice and PortAudio (extra `mic`)."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Event
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pipeline.screen import say
from pipeline.watching.source import Cut, Emit, NewWindow, Source

if TYPE_CHECKING:
    import numpy as np

NO_SAMPLES_S = 10.0
"""A microphone that gives nothing for so long has failed."""
INSTALL = "pip install 'anomalous-sound-pipeline[mic]', and PortAudio: apt install libportaudio2"


@dataclass
class MicrophoneSource(Source):
    """Cuts what a microphone hears into windows."""

    name: str
    cut: Cut
    machine: str = ""
    device: str = ""
    """Part of its name, or its number, as `python -m sounddevice` lists them; "": the default."""
    clock: Callable[[], float] = time.time
    no_samples_s: float = NO_SAMPLES_S

    def run(self, emit: Emit, stop: Event) -> None:
        """Hand over windows until `stop` is set; OSError where there is no microphone."""
        from embed.recordings.sound import Sound
        from embed.recordings.windows import windows_of_sound

        audio = _sounddevice()
        device: int | str | None = int(self.device) if self.device.isdecimal() else self.device
        try:
            about = audio.query_devices(device or None, "input")
            rate = round(about["default_samplerate"])
            channel = self.cut.preprocessing.channel
            wanted = about["max_input_channels"] if channel == "mean" else int(channel) + 1
            blocks: queue.Queue[np.ndarray] = queue.Queue()
            with audio.InputStream(
                samplerate=rate,
                device=device or None,
                channels=wanted,
                dtype="float32",
                callback=_keeping(blocks),
            ):
                heard = Sound(rate, wanted, None, self._blocks(blocks, stop), True)
                cut = self.cut
                for window in windows_of_sound(
                    heard, cut.sample_rate, cut.window_s, cut.hop_s, cut.preprocessing
                ):
                    if stop.is_set():
                        return
                    by_rate = {cut.sample_rate: window}
                    emit(NewWindow(self.name, self.machine, by_rate, self.clock()))
        except (audio.PortAudioError, ValueError) as error:
            if not stop.is_set():
                raise OSError(f"the microphone {self.device or 'by default'}: {error}") from error

    def _blocks(self, blocks: queue.Queue[np.ndarray], stop: Event) -> Iterator[np.ndarray]:
        """Yield blocks `(n_frames, n_channels)` as they come."""
        last = time.monotonic()
        while not stop.is_set():
            try:
                block = blocks.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() - last > self.no_samples_s:
                    raise OSError(
                        f"the microphone {self.device or 'by default'} gives no samples"
                    ) from None
                continue
            last = time.monotonic()
            yield block


def _keeping(blocks: queue.Queue[np.ndarray]) -> Callable[..., None]:
    """Make the callback of a stream, which copies each block out of PortAudio's buffer."""
    has_said = False

    def keep(block: np.ndarray, _frames: int, _time: Any, status: Any) -> None:
        nonlocal has_said
        if status and not has_said:
            has_said = True
            say("warning", f"samples of the microphone are lost ({status})", "yellow")
        blocks.put(block.copy())

    return keep


def _sounddevice() -> ModuleType:
    """Import sounddevice; OSError with what to install where it or PortAudio is missing."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise OSError(f"the microphone needs {INSTALL} ({error})") from None
    return sounddevice  # type: ignore[no-any-return]
