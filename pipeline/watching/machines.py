"""All machines of a watch: what follows from each file and window that comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from ground.file_names import file_name
from ground.text import one_line
from pipeline.rating import Judge
from pipeline.watching import telling
from pipeline.watching.alarms import SILENT_DBFS, AlarmRules, MachineState, Observation
from pipeline.watching.engine import Engine
from pipeline.watching.kept_sound import AlarmsFolder, SoundRing
from pipeline.watching.listening import Heard, Listener, picture_of
from pipeline.watching.message import Message
from pipeline.watching.source import NewFile, NewWindow
from pipeline.watching.state import MachineRow, Outcome, WatchState, WindowRow, iso


class ToBeReadAgain(Exception):  # noqa: N818 - it names the outcome
    """A file that cannot be judged now: it changes, or the disk cannot be read."""


@dataclass
class Machines:
    """Judges what comes, and keeps the state of each machine."""

    listener: Listener
    rules: AlarmRules
    alarms: AlarmsFolder
    model_version: str
    """Of the model's content, so that drift begins anew with another one."""
    kept: WatchState
    clock: Callable[[], float] = time.time
    _engines: dict[str, Engine] = field(default_factory=dict)
    _rings: dict[str, SoundRing] = field(default_factory=dict)
    _growing: dict[str, str] = field(default_factory=dict)
    """By machine, the sound of its last alarm, to which what comes is added."""
    _rows: dict[str, MachineRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = self.kept.machines()

    @property
    def states(self) -> dict[str, MachineState]:
        """The machines that were heard or are expected, by name."""
        return {machine: engine.state for machine, engine in self._engines.items()}

    def resume(self) -> None:
        """Take up the machines of the last watch that the model still knows."""
        names = {" ".join(name).strip(): name for name in self.listener.checker.model.names}
        for machine in list(self._rows):
            if machine in names:
                with suppress(ValueError, OSError):  # it is said when a recording of it comes
                    self._engine(self.listener.checker.judge_of(names[machine]), "")

    def expect(self, named: str, source: str) -> Outcome:
        """Count from now on how long nothing is heard of the machine of a stream."""
        judge = self.listener.checker.judge_of(self.listener.machine(named))
        engine, outcome = self._engine(judge, source), Outcome()
        if engine.state.last_audio_at is None:
            engine.state = replace(engine.state, last_audio_at=self.clock(), since=self.clock())
        outcome.machines[judge.name] = engine.row()
        return outcome

    def file(self, new: NewFile) -> Outcome:
        """Judge a file. ToBeReadAgain where it cannot be read now; then nothing has changed."""
        outcome = Outcome(file=new.version)
        self._check_readable(new.path)
        before: dict[str, Engine] = {}
        ended = min(new.version.mtime_ns / 1e9, self.clock())
        problem = ""
        try:
            for heard, at in _timed(self.listener.file(new), new.path, ended):
                engine = self._engine(heard.judge, new.source)
                before.setdefault(heard.machine, engine.copy())
                identity = (new.source, new.version.path, str(new.version.mtime_ns))
                self._take_in(heard, engine, at, identity, outcome)
        except Exception as error:  # a file must not end the watch of all others
            problem = one_line(error)
            if isinstance(error.__cause__, OSError):
                self._engines.update(before)
                raise ToBeReadAgain(problem) from None
        if self._has_changed(new):
            self._engines.update(before)
            raise ToBeReadAgain("it changed while it was read")
        if problem:
            machine = " ".join(new.machine).strip()
            outcome.windows.append(_unjudged(new.source, machine, ended))
            outcome.problem = f"{new.source}: {new.version.path}: {problem}"
        return outcome

    def stream_window(self, new: NewWindow) -> Outcome:
        """Judge a window of a stream."""
        outcome = Outcome()
        try:
            heard = self.listener.stream_window(new)
            engine = self._engine(heard.judge, new.source)
            self._take_in(heard, engine, new.at, (new.source, iso(new.at)), outcome)
        except Exception as error:  # a window must not end the watch of all others
            outcome.windows.append(_unjudged(new.source, new.machine, new.at))
            outcome.problem = f"{new.source}: {one_line(error)}"
        return outcome

    def check_audio(self, no_audio_s: dict[str, float], since: float) -> Outcome:
        """Tell of machines that were not heard for too long, by the rule of their source."""
        outcome, now = Outcome(), self.clock()
        for machine, engine in self._engines.items():
            before = engine.state
            limit = no_audio_s.get(engine.source, 0.0)
            engine.state, changes = before.checked_for_audio(limit, now, since)
            for change in changes:
                outcome.messages.append(
                    telling.change_of_machine(
                        change, machine, engine.source, before, engine.state, now
                    )
                )
                outcome.machines[machine] = engine.row()
        return outcome

    def _engine(self, judge: Judge, source: str) -> Engine:
        """Return the engine of a machine, from what was kept where there is something."""
        engine = self._engines.get(judge.name)
        if engine is None:
            scores = judge.calibration_scores.tolist()
            row = self._rows.pop(judge.name, None)
            if row is None:
                engine = Engine.new(source, self.model_version, scores)
            else:
                later = self.kept.drift_scores(judge.name)
                engine = Engine.from_row(row, self.model_version, scores, later)
            self._engines[judge.name] = engine
        engine.source = source or engine.source
        return engine

    def _take_in(
        self, heard: Heard, engine: Engine, at: float, identity: tuple[str, ...], outcome: Outcome
    ) -> None:
        """Let a machine know of one more window, and add what follows to the outcome."""
        machine, row = heard.machine, heard.row
        start = f"{heard.window.start_s:.3f}"
        window_id = telling.event_id(machine, *identity, start)
        off_below = self.listener.off_below(heard.judge)
        seen = Observation(at, row.verdict, heard.level_dbfs, off_below)
        before = engine.state
        changes = engine.step(seen, self.rules, self.clock(), window_id)
        self._keep_sound(heard)
        for change in changes:
            if change == "alarm":
                outcome.messages.append(self._alarm(heard, engine))
                outcome.window_s[window_id] = heard.seconds
            else:
                outcome.messages.append(
                    telling.change_of_machine(
                        change, machine, engine.source, before, engine.state, at, row.key
                    )
                )
        # an alarm says more than drift; what was known before a window may decide on taking it in
        is_measured = engine.state.state != "off" and heard.level_dbfs >= SILENT_DBFS
        if (
            is_measured
            and not before.alarm_id
            and row.p_value is not None
            and row.anomaly_score is not None
        ):
            self._measure(heard, engine, at, row.anomaly_score, outcome)
        threshold = heard.judge.threshold
        outcome.windows.append(
            WindowRow(
                engine.source,
                machine,
                at,
                heard.window.start_s,
                row.anomaly_score,
                threshold.value if threshold else None,
                row.p_value,
                row.verdict,
                "silent" if heard.level_dbfs < SILENT_DBFS else engine.state.state,
            )
        )
        outcome.machines[machine] = engine.row()

    def _measure(
        self, heard: Heard, engine: Engine, at: float, score: float, outcome: Outcome
    ) -> None:
        """Take a score into the drift of its machine."""
        machine, window = heard.machine, heard.window
        if engine.drift is not None and engine.drift.n_windows == 0:
            outcome.forget_drift_of.add(machine)
        if engine.measure(heard.row.key, window.start_s, window.end_s, score):
            outcome.drift_scores.append((machine, score))
        if engine.drifts(at):
            outcome.messages.append(
                telling.drift(
                    machine,
                    engine.source,
                    at,
                    engine.suspected_since,
                    model=self.listener.checker.model.path,
                    identity=telling.event_id(machine, "drift", self.model_version),
                )
            )

    def _alarm(self, heard: Heard, engine: Engine) -> Message:
        """Explain an alarm, and keep its sound and its picture."""
        described, evidence = self.listener.explained(heard)
        message = telling.alarm(heard, described, engine.state, self.rules, engine.source)
        day, clock = message.at[:10], message.at[11:19].replace(":", "-")
        name = f"{day}T{clock}_{file_name(heard.machine)}_{message.id[:8]}"
        ring = self._rings[heard.machine]
        sound = self.alarms.keep_sound(name, ring.sound(), ring.sample_rate)
        self._growing[heard.machine] = sound
        picture = ""
        if evidence is not None and sound:
            picture = self.alarms.keep_picture(name, picture_of(evidence))
        return replace(message, sound=sound, picture=picture)

    def _keep_sound(self, heard: Heard) -> None:
        """Remember a window, and add it to the sound of the alarm before it."""
        machine, window = heard.machine, heard.window
        ring = self._rings.get(machine)
        if ring is None or ring.sample_rate != window.sample_rate:
            ring = self._rings[machine] = SoundRing(window.sample_rate)
        samples = ring.add(window.waveform)
        if file := self._growing.get(machine):
            self.alarms.add_after(file, samples)

    def _check_readable(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            raise ToBeReadAgain(f"it cannot be read: {error.strerror or error}") from None

    def _has_changed(self, new: NewFile) -> bool:
        try:
            about = new.path.stat()
        except OSError:
            return True
        return (about.st_size, about.st_mtime_ns) != (new.version.size, new.version.mtime_ns)


def _timed(stream: Iterator[Heard], path: Path, ended: float) -> Iterator[tuple[Heard, float]]:
    """Give each window of a file the time at which it ended, by that of the file."""
    from embed.recordings.audio import seconds_of

    total = 0.0
    for heard in stream:
        total = total or seconds_of(path)
        yield heard, ended - max(0.0, total - heard.window.end_s)


def _unjudged(source: str, machine: str, at: float) -> WindowRow:
    return WindowRow(source, machine, at, 0.0, None, None, None, "unknown", "")
