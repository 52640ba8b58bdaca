"""Exit codes, and the error of a command line."""

from __future__ import annotations

DONE, FAILED, USAGE, CLIPS_LEFT_OUT, ANOMALOUS, INTERRUPTED = 0, 1, 2, 3, 4, 130


class UsageError(ValueError):
    """A mistake in what was asked for, such as an unknown name: exit code 2."""
