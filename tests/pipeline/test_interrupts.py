"""Ctrl-C says what is waited for, and a second one ends the process at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


HANDLERS = """
import signal, threading
from pipeline.interrupts import ignore_interrupts, stopping_after_a_batch
before = signal.getsignal(signal.SIGINT)
"""
PUT_BACK = """
try:
    with stopping_after_a_batch():
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print(signal.getsignal(signal.SIGINT) is before)
"""
IN_A_THREAD = """
def in_a_thread():
    with stopping_after_a_batch():
        print(signal.getsignal(signal.SIGINT) is before)
thread = threading.Thread(target=in_a_thread)
thread.start()
thread.join()
"""
BESIDE_ANOTHER = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
with stopping_after_a_batch():
    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
IN_A_WORKER = """
ignore_interrupts()
signal.raise_signal(signal.SIGINT)
print(True)
"""


@pytest.mark.parametrize("case", [PUT_BACK, IN_A_THREAD, BESIDE_ANOTHER, IN_A_WORKER])
def test_handlers_of_others_are_left_alone(case):
    ran = subprocess.run(
        [sys.executable, "-c", HANDLERS + case],
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "True"
