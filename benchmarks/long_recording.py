"""How fast, and in how much memory, `check --window` judges a long recording.

    python benchmarks/long_recording.py MODEL RECORDING --hours 24

writes RECORDING again and again to a temporary file of so many hours, judges it by windows of 10 s
every 5 s, and prints the times real time and the largest memory of the process.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import soundfile

from pipeline.checking import load_model

WINDOW_S, HOP_S = 10.0, 5.0


def write_long(path: Path, recording: Path, hours: float) -> None:
    """Join copies of a recording until there is enough, a copy at a time."""
    samples, rate = soundfile.read(recording, dtype="int16", always_2d=True)
    with soundfile.SoundFile(path, "w", rate, samples.shape[1], "PCM_16", format="RF64") as file:
        while file.frames < hours * 3600 * rate:
            file.write(samples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--machine", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "long.wav"
        write_long(long, arguments.recording, arguments.hours)
        start = time.perf_counter()
        checker = load_model(arguments.model)
        checks = checker.check(long, machine=arguments.machine, window=WINDOW_S, hop=HOP_S)
        seconds = time.perf_counter() - start
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{len(checks.rows)} windows of {arguments.hours:g} h in {seconds:.1f} s: "
        f"{arguments.hours * 3600 / seconds:.0f} times real time, {megabytes:.0f} MB at most"
    )


if __name__ == "__main__":
    main()
