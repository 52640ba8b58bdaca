"""The sound around an alarm: the seconds before it from memory, the seconds after as they come.

Sounds are flac, pictures PNG, in one folder whose size is limited. The oldest go first. A full disk
stops the keeping, and nothing else.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ground.files import write_whole
from ground.text import one_line

if TYPE_CHECKING:
    import numpy as np

BEFORE_S, AFTER_S = 60.0, 30.0
FULL_SCALE = 32767


@dataclass
class SoundRing:
    """The last windows of one machine as 16-bit samples, oldest first."""

    sample_rate: int
    before_s: float = BEFORE_S
    _windows: deque[np.ndarray] = field(default_factory=deque)
    _n_samples: int = 0

    def add(self, waveform: np.ndarray) -> np.ndarray:
        """Keep a window (n_samples,) in [-1, 1]; return it as 16-bit samples.

        What is older than `before_s` goes, but one window stays, whatever its length.
        """
        samples = as_16_bits(waveform)
        self._windows.append(samples)
        self._n_samples += len(samples)
        most = self.before_s * self.sample_rate
        while len(self._windows) > 1 and self._n_samples > most:
            self._n_samples -= len(self._windows.popleft())
        return samples

    def sound(self) -> np.ndarray:
        """Return all that is kept, one window after the other."""
        import numpy as np

        return np.concatenate([*self._windows])


def as_16_bits(waveform: np.ndarray) -> np.ndarray:
    """Round samples in [-1, 1] to 16 bits; louder ones are clipped."""
    import numpy as np

    samples: np.ndarray = np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE)
    return samples.astype(np.int16)


@dataclass
class _Growing:
    """A sound whose end is still to come."""

    sound: np.ndarray
    sample_rate: int
    n_left: int
    """Samples that are still added."""


@dataclass
class AlarmsFolder:
    """Keeps sounds and pictures of alarms, up to a limit."""

    path: Path
    most_bytes: int
    tell: Callable[[str], None]
    """Hears once when something could not be kept, and again after it worked in between."""
    after_s: float = AFTER_S
    _growing: dict[str, _Growing] = field(default_factory=dict)
    _is_failing: bool = False

    def keep_sound(self, name: str, sound: np.ndarray, sample_rate: int) -> str:
        """Write a sound (n_samples,) of 16 bits; return its file name, "" where it is not kept."""
        file = f"{name}.flac"
        if not self._write(file, flac(sound, sample_rate)):
            return ""
        self._growing[file] = _Growing(sound, sample_rate, round(self.after_s * sample_rate))
        return file

    def add_after(self, file: str, samples: np.ndarray) -> None:
        """Add samples to a sound that is kept, until it has enough of them."""
        import numpy as np

        growing = self._growing.get(file)
        if growing is None:
            return
        growing.sound = np.concatenate([growing.sound, samples])
        growing.n_left -= len(samples)
        written = self._write(file, flac(growing.sound, growing.sample_rate))
        if growing.n_left <= 0 or not written:
            self.stop_adding(file)

    def stop_adding(self, file: str) -> None:
        """Leave a sound as it is."""
        self._growing.pop(file, None)

    def keep_picture(self, name: str, content: bytes) -> str:
        """Write a PNG; return its file name, "" where it is not kept."""
        return f"{name}.png" if self._write(f"{name}.png", content) else ""

    def _write(self, file: str, content: bytes) -> bool:
        """Write a file, after the oldest have made room for it."""
        if len(content) > self.most_bytes:
            return False
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._make_room(self.most_bytes - len(content), file)
            write_whole(self.path / file, content)
        except OSError as error:
            if not self._is_failing:
                self.tell(f"sounds and pictures are not kept: {one_line(error)}")
            self._is_failing = True
            return False
        self._is_failing = False
        return True

    def _make_room(self, most_bytes: int, but: str) -> None:
        """Remove the oldest files until the others take at most so many bytes."""
        files = []
        for path in self.path.iterdir():
            if path.suffix in (".flac", ".png") and path.name != but:
                about = path.stat()
                files.append((about.st_mtime_ns, about.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= most_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def flac(sound: np.ndarray, sample_rate: int) -> bytes:
    """Encode samples (n_samples,) of 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, sound, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()
