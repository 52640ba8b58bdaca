"""Sound that comes as a stream: standard input, or what a command writes, as ffmpeg does."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, BinaryIO

from ground.text import visible
from pipeline.watching.source import Cut, Emit, NewWindow, Source

if TYPE_CHECKING:
    from embed.recordings.streams import RawFormat

LAST_MOMENTS_S = 2.0
LAST_WORDS = 400
"""Characters of a command's standard error that are said when it ends."""


@dataclass
class StreamSource(Source):
    """Cuts a stream into windows: wav, or raw samples where `raw` says how to read them."""

    name: str
    cut: Cut
    machine: str = ""
    raw: RawFormat | None = None
    command: Sequence[str] = ()
    """What to start, without a shell; empty for standard input."""
    clock: Callable[[], float] = time.time
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def restarts(self) -> bool:
        """Tell whether it is a command; what standard input gave is gone."""
        return bool(self.command)

    def run(self, emit: Emit, stop: Event) -> None:
        """Hand over windows until the stream ends.

        What is wrong with the stream is a ClipError. The end of a command is an OSError, since it
        is meant to go on.
        """
        if not self.command:
            self._read(sys.stdin.buffer, emit, stop)
            return
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(  # noqa: S603 - the person's own command, without a shell
                [*self.command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
            self._process = process
            problem: ValueError | None = None
            try:
                self._read(_opened(process), emit, stop)
            except ValueError as error:
                problem = error
            finally:
                if not stop.is_set():
                    self._wait(process)
                self.close()
            if problem and process.returncode in (0, -signal.SIGTERM):
                raise problem
            errors.seek(0)
            said = visible(errors.read()[-LAST_WORDS:].decode("utf-8", "replace")).split("\n")
        if not stop.is_set():
            last = next((line.strip() for line in reversed(said) if line.strip()), "")
            raise OSError(
                f"{self.command[0]} ended with exit code {process.returncode}"
                + (f": {last}" if last else "")
            )

    def close(self) -> None:
        """End the command."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Let a command that has closed its output end by itself."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(LAST_MOMENTS_S)

    def _read(self, file: BinaryIO, emit: Emit, stop: Event) -> None:
        from embed.recordings.windows import windows_of_stream

        cut = self.cut
        windows = windows_of_stream(
            file, self.raw, cut.sample_rate, cut.window_s, cut.hop_s, cut.preprocessing
        )
        for window in windows:
            if stop.is_set():
                return
            emit(NewWindow(self.name, self.machine, {cut.sample_rate: window}, self.clock()))


def _opened(process: subprocess.Popen[bytes]) -> BinaryIO:
    if process.stdout is None:
        raise TypeError("the command was started without a pipe")
    return process.stdout  # type: ignore[return-value]
