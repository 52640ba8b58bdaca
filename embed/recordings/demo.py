"""Demo recordings: three slide rails of a physical toy model, in the DCASE 2020 layout.

A motor moves a carriage to and fro on a rail by a toothed belt. The motion decides when something
happens: a bearing ball takes up the load, the carriage reverses, it passes a scratch. Each event
strikes or rubs a body (bearing, rail, frame), which rings in modes of its own. A factory is heard
around it. A fault changes a cause in this model, not the recording afterwards.

Lengths are in metres, times in seconds, frequencies in Hz.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16_000
SECONDS = 10
N_TRAIN, N_TEST_NORMAL, N_TEST_ANOMALOUS = 60, 20, 20

FAULTS = ("rail scratch", "loose belt", "dry bearing")
SEVERITIES = (1.0, 0.7, 0.4)

MARKER = "demo.json"
VERSION = 1  # of the recordings; goes up when a sample of them changes
_LEFTOVER_AGE = 3600.0  # a write takes seconds; an older partial folder belongs to a killed one

Body = tuple[tuple[float, float, float], ...]  # its modes: frequency, decay time, amplitude

MOTOR = {1: 1.0, 2: 0.5, 3: 0.35, 5: 0.2}  # harmonic: level
MAINS = {1: 1.0, 2: 0.8, 3: 0.3}


@dataclass(frozen=True, kw_only=True)
class SlideRail:
    """One machine: its motion, what rings in it, and where it stands."""

    machine_id: str
    stroke: float  # travel from end to end
    speed: float  # at most, in m/s
    acceleration: float  # in m/s²
    dwell: float  # rest at either end
    ball_spacing: float  # travel from one bearing impact to the next
    motor_cycles: float  # per metre of travel
    bearing: Body
    rail: Body
    frame: Body
    factory_level: float  # against the machine's own parts, 1 is a busy hall
    fault_level: float  # how much of a fault reaches the microphone


RAILS = (
    SlideRail(
        machine_id="id_00",
        stroke=0.60,
        speed=0.80,
        acceleration=4.0,
        dwell=0.15,
        ball_spacing=0.012,
        motor_cycles=420.0,
        bearing=((2350.0, 0.004, 1.0), (3900.0, 0.003, 0.8), (5600.0, 0.002, 0.5)),
        rail=((1180.0, 0.020, 1.0), (2870.0, 0.012, 0.7), (6200.0, 0.006, 0.5)),
        frame=((96.0, 0.060, 1.0), (240.0, 0.040, 0.8), (610.0, 0.025, 0.5)),
        factory_level=0.45,
        fault_level=0.9,
    ),
    SlideRail(
        machine_id="id_02",
        stroke=0.35,
        speed=0.50,
        acceleration=2.5,
        dwell=0.30,
        ball_spacing=0.009,
        motor_cycles=650.0,
        bearing=((1900.0, 0.005, 1.0), (3300.0, 0.003, 0.9), (4700.0, 0.002, 0.4)),
        rail=((860.0, 0.025, 1.0), (2140.0, 0.014, 0.8), (5100.0, 0.006, 0.5)),
        frame=((70.0, 0.070, 1.0), (185.0, 0.050, 0.7), (470.0, 0.030, 0.6)),
        factory_level=0.70,
        fault_level=1.05,
    ),
    SlideRail(
        machine_id="id_04",
        stroke=0.90,
        speed=1.20,
        acceleration=7.0,
        dwell=0.08,
        ball_spacing=0.016,
        motor_cycles=300.0,
        bearing=((2700.0, 0.004, 1.0), (4300.0, 0.003, 0.7), (6700.0, 0.002, 0.6)),
        rail=((1460.0, 0.018, 1.0), (3350.0, 0.010, 0.8), (7000.0, 0.005, 0.4)),
        frame=((120.0, 0.050, 1.0), (310.0, 0.035, 0.9), (790.0, 0.020, 0.4)),
        factory_level=0.60,
        fault_level=1.0,
    ),
)
N_CLIPS = len(RAILS) * (N_TRAIN + N_TEST_NORMAL + N_TEST_ANOMALOUS)


@dataclass(frozen=True)
class _Order:
    """One clip to be recorded."""

    key: str
    rail: SlideRail
    fault: str
    severity: float
    seed: tuple[int, ...]


def _orders(seed: int) -> Iterator[_Order]:
    """List the clips; each has a seed of its own, so that order and threads do not matter."""
    for rail_index, rail in enumerate(RAILS):
        for part, (folder, count) in enumerate(
            (
                ("train/normal", N_TRAIN),
                ("test/normal", N_TEST_NORMAL),
                ("test/anomaly", N_TEST_ANOMALOUS),
            )
        ):
            for number in range(count):
                faulty = folder == "test/anomaly"
                yield _Order(
                    key=f"slider/{folder}_{rail.machine_id}_{number:08d}.wav",
                    rail=rail,
                    fault=FAULTS[number % len(FAULTS)] if faulty else "",
                    severity=SEVERITIES[number // len(FAULTS) % len(SEVERITIES)] if faulty else 0.0,
                    seed=(seed, rail_index, part, number),
                )


def _ring(body: Body, excitation: np.ndarray, drift: float) -> np.ndarray:
    """Let a body answer what excites it; `drift` scales its frequencies (temperature, load)."""
    from scipy.signal import sosfilt

    answer = np.zeros(len(excitation))
    for frequency, decay, amplitude in body:
        angle = 2 * np.pi * frequency * drift / SAMPLE_RATE
        radius = np.exp(-1 / (decay * SAMPLE_RATE))
        gain = amplitude * radius * np.sin(angle)
        mode = np.array([[0, gain, 0, 1, -2 * radius * np.cos(angle), radius**2]])
        answer += sosfilt(mode, excitation)
    return answer


def _coloured_noise(rng: np.random.Generator, n: int, exponent: float) -> np.ndarray:
    """Return noise of unit RMS whose power falls as frequency to the minus `exponent`."""
    from scipy.fft import irfft

    parts = rng.standard_normal((2, n // 2 + 1), dtype=np.float32)
    frequency = np.arange(n // 2 + 1, dtype=np.float32)
    lowest = np.float32(20.0 * n / SAMPLE_RATE)  # flat below 20 Hz
    spectrum = (parts[0] + 1j * parts[1]) * np.fmax(frequency, lowest) ** np.float32(-exponent / 2)
    noise: np.ndarray = irfft(spectrum, n).astype(float)
    noise /= np.sqrt(np.mean(noise**2))
    return noise


def _tones(cycles: np.ndarray, levels: dict[int, float]) -> np.ndarray:
    """Return a sound of these harmonics; `cycles` counts the turns of the first."""
    size = 1 << 13  # a table of one turn is faster than a sine per sample and harmonic
    turn = 2 * np.pi * np.arange(size) / size
    table = np.sum([level * np.sin(h * turn) for h, level in levels.items()], axis=0)
    sound: np.ndarray = table[(cycles * size).astype(np.int64) & (size - 1)]
    return sound


def _slow(rng: np.random.Generator, n: int, per_second: float) -> np.ndarray:
    """Return a curve that wanders with about unit deviation, with so many turns per second."""
    knots = rng.standard_normal(int(n / SAMPLE_RATE * per_second) + 2)
    return np.interp(np.linspace(0, len(knots) - 1, n), np.arange(len(knots)), knots)


def _factory(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the hall: ventilation, a neighbouring machine, sometimes air and metal."""
    noise = 0.030 * _coloured_noise(rng, n, rng.uniform(0.9, 1.3))
    noise *= 10 ** ((rng.normal(0, 1.5) + 0.8 * _slow(rng, n, 1.0)) / 20)
    t = np.arange(n) / SAMPLE_RATE
    rotation = rng.uniform(23.5, 24.5)
    loudness = 0.008 * rng.lognormal(0, 0.3)
    noise += loudness * _tones(rotation * t + rng.random(), {1: 1.0, 2: 0.7, 4: 0.5, 7: 0.38})
    if rng.random() < 0.35:  # an air valve
        start, width = rng.uniform(0, SECONDS), rng.uniform(0.2, 0.8)
        envelope = np.clip((t - start) / 0.05, 0, 1) * np.clip((start + width - t) / 0.2, 0, 1)
        noise += rng.uniform(0.003, 0.015) * envelope * _coloured_noise(rng, n, -0.5)
    strokes = np.zeros(n)
    for _ in range(rng.poisson(1.5)):  # metal on metal, somewhere else
        strokes[rng.integers(n)] += rng.lognormal(0, 0.6)
    pitch = rng.uniform(0.7, 1.4)
    clang = ((820.0, 0.08, 1.0), (1730.0, 0.06, 0.7), (3120.0, 0.04, 0.5))
    return noise + 0.006 * _ring(clang, strokes, pitch)


def _run(
    rail: SlideRail, rng: np.random.Generator, t: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Move the carriage: accelerate, cruise, brake, rest, come back.

    Returns its speed, the way it has gone since the start, and its place on the rail.
    """
    top = rail.speed * rng.normal(1, 0.02)
    acceleration = rail.acceleration * rng.normal(1, 0.04)
    moving = rail.stroke / top + top / acceleration
    period = moving + rail.dwell * rng.normal(1, 0.05)

    clock = t + rng.uniform(0, 2 * period)
    stroke = np.floor(clock / period)
    since = clock - stroke * period
    speed = np.clip(np.minimum(since, moving - since) * acceleration, 0, top)
    travel = np.cumsum(speed) / SAMPLE_RATE

    ramp = top / acceleration
    left = np.clip(moving - since, 0, None)
    starting, cruising = since < ramp, left > ramp
    done = np.where(
        starting,
        acceleration / 2 * since**2,
        np.where(cruising, top * (since - ramp / 2), rail.stroke - acceleration / 2 * left**2),
    )
    place = np.where(stroke % 2 == 0, done, rail.stroke - done)
    return speed, travel, place


@dataclass(frozen=True)
class _Motion:
    """How the carriage moves during one clip, a value per sample, and what wears with it."""

    t: np.ndarray  # time
    speed: np.ndarray  # in m/s
    travel: np.ndarray  # way since the start, in m
    place: np.ndarray  # on the rail, in m
    share: np.ndarray  # of the rail's highest speed
    drift: float  # scales all resonances of this clip
    load: float  # scales all forces of this clip


def record(rail: SlideRail, fault: str, severity: float, seed: tuple[int, ...]) -> np.ndarray:
    """Record one clip: (n_samples,) int16 at 16 kHz."""
    rng = np.random.default_rng(seed)
    n = SAMPLE_RATE * SECONDS
    t = np.arange(n) / SAMPLE_RATE
    scratch, slack, dryness = (severity * rail.fault_level * (fault == name) for name in FAULTS)

    speed, travel, place = _run(rail, rng, t)
    drift = 1 + 0.006 * rng.standard_normal()
    load = rng.lognormal(0, 0.12)
    motion = _Motion(t, speed, travel, place, speed / rail.speed, drift, load)
    sound = _bearing(rail, rng, motion, dryness)  # the order of these draws decides the samples
    sound += _rail(rail, rng, motion, scratch)
    sound += _frame(rail, rng, motion, slack)
    sound += _motor(rail, rng, motion, slack)
    sound += rail.factory_level * _factory(rng, n)
    sound *= 10 ** (rng.normal(0, 0.5) / 20)
    return np.clip(np.round(sound * 32_768), -32_768, 32_767).astype(np.int16)


def _bearing(
    rail: SlideRail, rng: np.random.Generator, motion: _Motion, dryness: float
) -> np.ndarray:
    """Return the bearing: every ball strikes as it takes up the load, and the raceway hisses.

    A dry bearing hisses in patches, strikes harder and less evenly, and squeals where it sticks
    and slips.
    """
    n, share = len(motion.t), motion.share
    struck = np.flatnonzero(np.diff(np.floor(motion.travel / rail.ball_spacing + rng.random())))
    blows = rng.lognormal(0, 0.35 + 0.5 * dryness, len(struck))
    force = np.zeros(n)
    force[struck] = 0.5 * (1 + 0.6 * dryness) * share[struck] * blows
    bare = np.clip(1 + 0.5 * _slow(rng, n, 4.0), 0, None)  # patches without grease
    force += 0.03 * (1 + dryness * bare) * share * np.sqrt(share) * rng.standard_normal(n)
    level = 0.035 * motion.load * rng.lognormal(0, 0.15)
    sound = level * _ring(rail.bearing, force, motion.drift)
    if dryness:
        pitch = 1.07 * rail.bearing[1][0] * motion.drift * (0.97 + 0.03 * share)
        cycles = np.cumsum(pitch * (1 + 0.01 * _slow(rng, n, 12.0))) / SAMPLE_RATE
        grip = np.clip(_slow(rng, n, 6.0), 0, None) * share
        sound += 0.006 * dryness * grip * _tones(cycles, {1: 1.0})
    return sound


def _rail(rail: SlideRail, rng: np.random.Generator, motion: _Motion, scratch: float) -> np.ndarray:
    """Return the rail: the rolling, and the ring where the carriage drops over a scratch."""
    rolling = 0.02 * rng.standard_normal(len(motion.t)) * motion.share
    if scratch:
        where = rail.stroke * rng.uniform(0.25, 0.75)
        passed = np.flatnonzero(np.diff(motion.place > where))
        depth = rng.lognormal(0.3, 0.2, len(passed))
        rolling[passed] += 1.3 * scratch * motion.share[passed] * depth
    return 0.035 * motion.load * _ring(rail.rail, rolling, motion.drift)


def _frame(rail: SlideRail, rng: np.random.Generator, motion: _Motion, slack: float) -> np.ndarray:
    """Return the frame: the jolt of every start and stop, and the slap of a belt that is loose."""
    n = len(motion.t)
    corners = np.flatnonzero(np.diff(np.sign(np.diff(motion.speed, prepend=motion.speed[0]))))
    jolts = np.zeros(n)
    jolts[corners] = rng.lognormal(0, 0.25, len(corners))
    if slack:
        late = corners + (SAMPLE_RATE * rng.uniform(0.02, 0.06, len(corners))).astype(int)
        late = late[late < n]
        jolts[late] += 1.5 * slack * rng.lognormal(0, 0.3, len(late))
    return 0.025 * motion.load * _ring(rail.frame, jolts, motion.drift)


def _motor(rail: SlideRail, rng: np.random.Generator, motion: _Motion, slack: float) -> np.ndarray:
    """Return the hum of the rotor and of the mains; a loose belt lets the load swing."""
    swing = 1 + 0.5 * slack * np.sin(2 * np.pi * (9.0 * motion.t + rng.random()))
    torque = motion.load * np.sqrt(motion.share) * swing
    turns = rail.motor_cycles * motion.travel
    sound: np.ndarray = 0.004 * rng.lognormal(0, 0.1) * torque * _tones(turns, MOTOR)
    sound += 0.002 * _tones(50.0 * motion.t + rng.random(), MAINS)
    return sound


def write_demo_data(folder: Path, seed: int = 0, on_clip: Callable[[], None] | None = None) -> None:
    """Write the 300 demo clips to `folder`, once; `on_clip` is called after each.

    The clips are made in a folder beside it, which takes the name when all are there. Demo data of
    this seed that is there already is left as it is; anything else there is a FileExistsError.
    """
    if is_written(folder, seed):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = f".{folder.name}.partial-"
    for leftover in folder.parent.glob(f"{partial}*"):
        if time.time() - leftover.stat().st_mtime > _LEFTOVER_AGE:
            shutil.rmtree(leftover, ignore_errors=True)
    unfinished = folder.parent / f"{partial}{os.getpid()}"
    try:
        _write_clips(unfinished, seed, on_clip or (lambda: None))
        _publish(unfinished, folder, seed)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_written(folder: Path, seed: int = 0) -> bool:
    """Tell whether this demo data is there; a folder with anything else is a FileExistsError."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; demo data needs a folder of that name")
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        found = (marker["version"], marker["seed"])
    except FileNotFoundError:
        if next(folder.iterdir(), None) is None:
            return False
        raise FileExistsError(
            f"{folder} has content of its own (no {MARKER}), which is not overwritten; "
            "choose a folder that is new or empty"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise FileExistsError(
            f"{folder / MARKER} cannot be read; delete {folder} to have the demo data written again"
        ) from None
    if found != (VERSION, seed):
        raise FileExistsError(
            f"{folder} holds demo data of version {found[0]} and seed {found[1]}, expected version "
            f"{VERSION} and seed {seed}; delete it to have the demo data written again"
        )
    return True


def _write_clips(folder: Path, seed: int, on_clip: Callable[[], None]) -> None:
    """Record all clips into a new folder, then say in its marker what they are."""
    orders = list(_orders(seed))
    for parent in {(folder / order.key).parent for order in orders}:
        parent.mkdir(parents=True)
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        for _ in pool.map(lambda order: _write(folder / order.key, order), orders):
            on_clip()
    finally:
        pool.shutdown(cancel_futures=True)
    marker = {
        "about": "synthetic slide rails; the faults are for people, no detector reads them",
        "version": VERSION,
        "seed": seed,
        "faults": {o.key: {"fault": o.fault, "severity": o.severity} for o in orders if o.fault},
    }
    (folder / MARKER).write_text(json.dumps(marker, indent=1), encoding="utf-8")


def _write(path: Path, order: _Order) -> None:
    import soundfile

    clip = record(order.rail, order.fault, order.severity, order.seed)
    soundfile.write(path, clip, SAMPLE_RATE, subtype="PCM_16")


def _publish(unfinished: Path, folder: Path, seed: int) -> None:
    """Give the finished folder its name; another process may have been first."""
    if folder.is_dir() and not is_written(folder, seed):
        folder.rmdir()  # empty, or this fails
    try:
        unfinished.rename(folder)
    except OSError:
        if not is_written(folder, seed):
            raise
