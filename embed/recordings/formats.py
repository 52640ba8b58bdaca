"""Which file names are recordings, and what reads them."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import PurePath

SOUNDFILE_FORMATS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3")
"""Read by libsndfile, always."""

PYAV_FORMATS = (
    *(".m4a", ".m4b", ".mp4", ".mov", ".3gp", ".aac", ".ac3", ".amr", ".wma", ".asf", ".wmv"),
    *(".webm", ".mkv", ".mka", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"),
    *(".avi", ".mp2", ".wv", ".tta", ".ape"),
)
"""Read by PyAV, whose wheels bring ffmpeg's decoders; it is an extra."""

FORMATS = (*SOUNDFILE_FORMATS, *PYAV_FORMATS)

INSTALL_PYAV = "pip install 'anomalous-sound-pipeline[formats]' (it brings PyAV)"


def is_recording(name: str) -> bool:
    """Tell from its ending whether a file name is one of a recording."""
    return name.lower().endswith(FORMATS)


def why_unreadable(name: str) -> str:
    """Say why no decoder here reads files of this ending, or "" where one does."""
    if name.lower().endswith(PYAV_FORMATS) and not _has_pyav():
        return f"{PurePath(name).suffix.lower()} files need {INSTALL_PYAV}"
    return ""


@cache
def _has_pyav() -> bool:
    return find_spec("av") is not None
