"""A week of watching, compressed: what it costs, whether memory grows, and whether all is counted.

    python benchmarks/simulate_watching.py --windows 100000

Twenty machines with the default recipe, a window of 10 s each every two minutes of simulated time.
Eighteen come as streams that die now and then, two as files of which one in fifty is damaged.
Machines fail, are switched off and fall silent; the broker is down half of the time (a stand-in:
the tests have a real one). Processor time is that of the whole process without the making of sound.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import soundfile

from pipeline.watching.message import Message

RATE, WINDOW_S, STEP_S = 16_000, 10.0, 120.0
N_MACHINES, N_IN_FOLDERS, N_RECORDINGS = 20, 2, 24
FILES_AT_ONCE = 25
NO_AUDIO_S = 3600.0
AHEAD = 3  # rounds that one source may be before the slowest
WELL, FAULTY, OFF = "well", "faulty", "off"


def sound(rng: np.random.Generator, machine: int, what: str) -> np.ndarray:
    """Make a window of a machine: a hum in noise, a whistle in it, or next to nothing."""
    n = round(RATE * WINDOW_S)
    if what == OFF:
        return 1e-4 * rng.standard_normal(n, dtype=np.float32)
    t = np.arange(n, dtype=np.float32) / RATE
    pitch = 80 + 13 * machine
    wave = 0.02 * rng.standard_normal(n, dtype=np.float32)
    for k in (1, 2, 3):
        wave += np.float32(0.05 / k) * np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6))
    if what == FAULTY:
        wave += 0.03 * np.sin(2 * np.pi * 3000 * t)
    return wave.astype(np.float32)


def name_of(machine: int) -> str:
    return f"press{machine:02d}"


def learn_model(folder: Path) -> Path:
    """Learn twenty machines by the default recipe."""
    from pipeline.learning import learn

    for machine in range(N_MACHINES):
        rng = np.random.default_rng([machine, 1])
        for i in range(N_RECORDINGS):
            path = folder / "recordings" / name_of(machine) / f"{i:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, sound(rng, machine, WELL), RATE)
    learn(
        folder / "recordings", model=folder / "model", cache_dir=folder / "cache", quiet=True,
        false_alarms="0.05",
    )  # fmt: skip
    return folder / "model"


def what_happens(rng: random.Random, n_rounds: int) -> list[str]:
    """Plan the rounds of one machine: well but for some faults of 30 rounds and some stops."""
    plan = [WELL] * n_rounds
    for what in [FAULTY] * max(1, n_rounds // 1000) + [OFF] * max(1, n_rounds // 500):
        start = rng.randrange(n_rounds)
        plan[start : start + 30] = [what] * len(plan[start : start + 30])
    return plan


@dataclass
class Pace:
    """Simulated time, and how far each source has come."""

    began: float
    rounds: dict[str, int] = field(default_factory=dict)
    condition: threading.Condition = field(default_factory=threading.Condition)
    making_s: float = 0.0
    """Processor time that went into the making of sound."""

    def now(self) -> float:
        return self.began + STEP_S * max(self.rounds.values(), default=0)

    def wait(self, source: str, number: int) -> None:
        with self.condition:
            self.rounds[source] = number
            self.condition.notify_all()
            self.condition.wait_for(lambda: number <= min(self.rounds.values()) + AHEAD)

    def leave(self, source: str) -> None:
        with self.condition:
            del self.rounds[source]
            self.condition.notify_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "model").exists():
            # in a process of its own, so that its memory is not counted
            pid = os.fork()
            if not pid:
                learn_model(folder)
                os._exit(0)
            os.waitpid(pid, 0)
        print(json.dumps(simulate(folder, arguments.windows // N_MACHINES), indent=1))


def simulate(folder: Path, n_rounds: int) -> dict[str, object]:
    """Watch for so many rounds; return the figures."""
    from embed.recordings.new_clips import names_of
    from embed.recordings.windows import Window
    from pipeline.watching import folder_source
    from pipeline.watching.delivery import BackOff, Deliveries
    from pipeline.watching.sink import Sink, Undelivered
    from pipeline.watching.source import NewWindow, Running, Source
    from pipeline.watching.sources_file import SourceChoice
    from pipeline.watching.state import STATE_FILE, FileVersion, WatchState, connect
    from pipeline.watching.watch import Watch, open_machines
    from pipeline.watching.watch_settings import WatchSettings

    out = folder / f"watch-{time.time_ns()}"
    settings = WatchSettings(model=folder / "model", out=out, quiet=True, keep_sound="50MB")
    pace = Pace(time.time() - n_rounds * STEP_S)
    plans = {m: what_happens(random.Random(m), n_rounds) for m in range(N_MACHINES)}
    counts: Counter[str] = Counter()
    blocks: list[dict[str, float]] = []

    class Stream(Source):
        def __init__(self, machine: int) -> None:
            self.name, self.machine = f"stream {machine}", machine
            self.next, self.rng = 0, np.random.default_rng([machine, 2])
            self.deaths = random.Random(machine)

        def run(self, emit, stop):
            while self.next < n_rounds and not stop.is_set():
                pace.wait(self.name, self.next)
                if self.deaths.random() < 1 / 1000:
                    counts["deaths of sources"] += 1
                    self.next += 1
                    raise OSError("the cable was pulled")
                before = time.thread_time()
                wave = sound(self.rng, self.machine, plans[self.machine][self.next])
                pace.making_s += time.thread_time() - before
                at = pace.began + STEP_S * self.next
                window = Window(wave, WINDOW_S * self.next, WINDOW_S * (self.next + 1))
                self.next += 1
                counts["windows of streams"] += 1
                emit(NewWindow(self.name, name_of(self.machine), {RATE: window}, at))
            pace.leave(self.name)

    class Folder(folder_source.FolderSource):
        """Writes its own files, some at a time, and removes those that are judged."""

        def run(self, emit, stop):
            writer = threading.Thread(target=self.write, args=(stop,), daemon=True)
            writer.start()
            done = threading.Event()
            threading.Thread(target=lambda: (writer.join(), done.set()), daemon=True).start()
            super().run(emit, done)

        def write(self, stop):
            rng, luck = np.random.default_rng(3), random.Random(3)
            for first in range(0, n_rounds, FILES_AT_ONCE):
                last = min(first + FILES_AT_ONCE, n_rounds)
                with pace.condition:  # the recording of a file ends before it is there
                    pace.condition.wait_for(
                        lambda n=last - 1: not pace.rounds or max(pace.rounds.values()) >= n
                    )
                for number in range(first, last):
                    for machine in range(N_IN_FOLDERS):
                        path = self.folder / name_of(machine) / f"{number:05d}.wav"
                        path.parent.mkdir(parents=True, exist_ok=True)
                        whole, path = path, path.with_suffix(".part")
                        before = time.thread_time()
                        if luck.random() < 0.02:
                            path.write_bytes(b"RIFF, and then the power failed")
                            counts["damaged files"] += 1
                        else:
                            wave = sound(rng, machine, plans[machine][number])
                            soundfile.write(path, wave, RATE, format="WAV")
                        pace.making_s += time.thread_time() - before
                        when = pace.began + STEP_S * number
                        os.utime(path, (when, when))
                        path.replace(whole)
                        counts["files"] += 1
                while any(self.folder.rglob("*.wav")) and not stop.is_set():
                    time.sleep(0.05)

        def finished(self, version: FileVersion) -> None:
            super().finished(version)
            (self.folder / version.path).unlink(missing_ok=True)

    class Broker(Sink):
        name, seen = "broker", []

        def deliver(self, message: Message) -> None:
            if int(time.monotonic() / 5) % 2:
                raise Undelivered("the broker is down")
            self.seen.append(message)

    class Measured(Watch):
        n_taken = 0

        def _take(self, item) -> None:
            super()._take(item)
            if isinstance(item, Running):
                return
            self.n_taken += 1
            if self.n_taken % max(1, n_rounds * N_MACHINES // 20) == 0:
                blocks.append(figures(self.n_taken, pace))

    state = WatchState(connect(out / STATE_FILE))
    machines = open_machines(settings, state)
    machines.clock = pace.now
    incoming = folder / "incoming"
    incoming.mkdir(exist_ok=True)
    sources: list[Source] = [Stream(m) for m in range(N_IN_FOLDERS, N_MACHINES)]
    sources.append(
        Folder("incoming", incoming, names_of(list(machines.listener.checker.model.names)),
               out / STATE_FILE, settle_s=0.0)
    )  # fmt: skip
    choices = [SourceChoice(s.name, NO_AUDIO_S, name_of(s.machine)) for s in sources[:-1]]
    choices.append(SourceChoice("incoming", 0.0, folder=incoming))
    pace.rounds = {s.name: 0 for s in sources[:-1]}
    deliveries = Deliveries(out / STATE_FILE, [Broker()], back_off=BackOff(0.5, 2.0))
    watching = Measured(settings, choices, machines, state, deliveries, sources, clock=pace.now)
    folder_source.TICK_S = 0.1
    watching.run()
    return summary(out / STATE_FILE, counts, blocks, Broker.seen, plans)


def summary(
    path: Path,
    counts: Counter[str],
    blocks: list[dict[str, float]],
    seen: list[Message],
    plans: dict[int, list[str]],
) -> dict[str, object]:
    """Compare what was made with what was recorded and delivered."""
    from pipeline.watching.state import connect

    connection = connect(path)
    alarms = {row[0] for row in connection.execute("SELECT id FROM alarms")}
    faulty = {
        name_of(machine): sum(
            what == FAULTY and (not i or plan[i - 1] != FAULTY) for i, what in enumerate(plan)
        )
        for machine, plan in plans.items()
    }
    delivered = [m.id for m in seen if m.kind == "alarm"]
    first, last = blocks[0], blocks[-1]
    n = last["windows"] - first["windows"]
    return {
        "made": dict(counts),
        "files recorded": connection.execute("SELECT count(*) FROM files").fetchone()[0],
        "faults planned": sum(faulty.values()),
        "alarms": len(alarms),
        "alarms delivered": len(set(delivered)),
        "delivered twice": len(delivered) - len(set(delivered)),
        "messages": dict(Counter(m.kind for m in seen)),
        "still waiting": connection.execute("SELECT count(*) FROM outbox").fetchone()[0],
        "cpu ms per window": 1000 * (last["cpu_s"] - first["cpu_s"]) / n,
        "share of a core, 20 machines every 10 s": 2 * (last["cpu_s"] - first["cpu_s"]) / n,
        "MB of the state file": path.stat().st_size / 1e6,
        "MB after": [[b["windows"], round(b["MB"], 1)] for b in blocks],
    }


def figures(n_windows: int, pace: Pace) -> dict[str, float]:
    """Measure memory and processor time now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "windows": n_windows,
        "MB": int(status["VmRSS"].split()[0]) / 1024,
        "cpu_s": time.process_time() - pace.making_s,
    }


if __name__ == "__main__":
    main()
