"""Exit codes, the error of a command line, the version."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_here() -> str:
    """Return the version of the installed package."""
    try:
        return version("anomalous-sound-pipeline")
    except PackageNotFoundError:
        return "unknown"


DONE, FAILED, USAGE, CLIPS_LEFT_OUT, ANOMALOUS, INTERRUPTED = 0, 1, 2, 3, 4, 130


class UsageError(ValueError):
    """A mistake in what was asked for, such as an unknown name: exit code 2."""
