"""What the tests of recordings share."""

from pathlib import Path

import pytest
import soundfile
from sounds import RATE, noise


@pytest.fixture
def wav(tmp_path) -> Path:
    """Give one second of noise in a file."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, noise(), RATE)
    return path
