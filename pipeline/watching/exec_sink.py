"""The sink `--exec CMD`: a command is started for each message, without a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from pipeline.exits import UsageError
from pipeline.watching.credentials import environment_without_credentials
from pipeline.watching.message import Message
from pipeline.watching.sink import Sink, Undelivered

LIMIT_S = 60.0
"""A command that runs longer is ended, with all that it started."""


class ExecSink(Sink):
    """Gives a command the message as one line of JSON on its standard input.

    Exit code 0 means delivered. What the command prints goes to standard error, because standard
    output belongs to the messages of the watch.
    """

    name = "exec"

    def __init__(self, arguments: Sequence[str], limit_s: float = LIMIT_S) -> None:
        self.arguments = list(arguments)
        self.limit_s = limit_s

    def deliver(self, message: Message) -> None:
        """Run the command to its end; Undelivered for another exit code than 0."""
        program = self.arguments[0]
        try:
            process = subprocess.Popen(  # noqa: S603 - the user's own command, without a shell
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=2,
                env=environment_without_credentials(),
                start_new_session=True,
            )
        except OSError as error:
            raise Undelivered(f"{program} cannot be started: {error.strerror}") from None
        try:
            process.communicate(message.as_json().encode() + b"\n", timeout=self.limit_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):  # it ended just now
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Undelivered(f"{program} ran longer than {self.limit_s:g} s") from None
        if process.returncode:
            raise Undelivered(f"{program} ended with exit code {process.returncode}")


def exec_sink(command: str) -> ExecSink:
    """Split a command as a shell does; UsageError where there is no such program."""
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--exec cannot be split into words: {error}") from None
    if not arguments:
        raise UsageError("--exec names no command")
    if shutil.which(arguments[0]) is None:
        raise UsageError(f"--exec {arguments[0]}: there is no such program")
    return ExecSink(arguments)
