"""Ctrl-C says what is waited for, and a second one ends the process at once."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.interrupts import ignore_interrupts, stopping_after_a_batch

ROOT = Path(__file__).resolve().parents[2]
SLOW = """
import sys, time, run_pipeline
from embed.encoders.wave import Wave
def slow(self, *_):
    print("encoding", flush=True)
    time.sleep(30)
Wave.encode = slow
sys.argv = ["run_pipeline.py", "--encoder", "wave", "--data", sys.argv[1]]
sys.exit(run_pipeline.main())
"""


def test_the_first_ctrl_c_is_answered_and_the_second_ends_a_slow_network(recorded, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, str(recorded)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.stderr.readline()
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)

    assert said.strip() == "stopping after this batch; Ctrl-C again stops now"
    assert process.returncode == 130
    assert time.monotonic() - started < 10
    assert "Traceback" not in err


def test_the_handler_of_before_is_put_back():
    before = signal.getsignal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), stopping_after_a_batch():
        signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_and_other_handlers_are_left_alone():
    def in_a_thread() -> None:
        with stopping_after_a_batch():
            pass

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping_after_a_batch():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_workers_leave_ctrl_c_to_the_main_process():
    before = signal.getsignal(signal.SIGINT)
    try:
        ignore_interrupts()
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
