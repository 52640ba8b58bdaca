"""Runs watches that are killed: for each line of standard input, one in a process of its own.

A line is a folder, and the number of calls of functions until `kill -9`, or `inf`: so the moment
does not depend on how busy the computer is. Imports are made once, before.
"""

import itertools
import os
import signal
import sys
import threading
from pathlib import Path

import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import soundfile  # noqa: F401
import watchfiles  # noqa: F401

from pipeline.checking import load_model
from pipeline.watching import folder_source, watch
from pipeline.watching.watch_settings import WatchSettings


def count_calls(most):
    """Count the calls of functions in all threads; at the last one allowed, `kill -9`."""
    calls = itertools.count(1)

    def note(*_):
        if next(calls) >= most:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(note)
    sys.setprofile(note)
    return calls


def child(settings, folder, most):
    os.chdir(folder)
    os.dup2(os.open("told.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    calls = count_calls(most)
    code = 1
    try:
        code = watch.watch("incoming", settings)
        Path("calls").write_text(str(next(calls)))
    finally:
        os._exit(code)


def main(model, keep_sound):
    folder_source.TICK_S = watch.TICK_S = 0.02
    checker = load_model(model)
    for machine in checker.model.names:
        checker.judge_of(machine)
    settings = WatchSettings(
        model=Path(model), out=Path("watch"), once=True, settle="0.02s", quiet=True,
        confirm="2/3", cooldown="0", keep_sound=keep_sound,
    )  # fmt: skip
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            folder, most = line.split()
            child(settings, Path(folder), float(most))
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
