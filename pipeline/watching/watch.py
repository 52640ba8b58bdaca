"""The command `watch`: sources, machines, state and deliveries joined, for months."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ground.files import sha256_of
from ground.text import one_line
from pipeline.checking import Checker
from pipeline.exits import ANOMALOUS, CLIPS_LEFT_OUT, DONE, FAILED, UsageError
from pipeline.model import read_model
from pipeline.screen import messages, relay_rooms, say
from pipeline.watching import telling
from pipeline.watching.alarms import AlarmRules
from pipeline.watching.amounts import QuietHours, bytes_of, seconds_of
from pipeline.watching.delivery import Deliveries, sinks_of
from pipeline.watching.folder_source import FolderSource
from pipeline.watching.kept_sound import AlarmsFolder
from pipeline.watching.listening import Listener
from pipeline.watching.machines import Machines, ToBeReadAgain
from pipeline.watching.message import Message
from pipeline.watching.microphone import MicrophoneSource
from pipeline.watching.page import page_of
from pipeline.watching.source import Back, Ended, Failed, Item, NewFile, NewWindow, Source
from pipeline.watching.sources_file import SourceChoice, sources_of
from pipeline.watching.standard_output import StandardOutput
from pipeline.watching.state import STATE_FILE, Outcome, WatchState, connect
from pipeline.watching.stream_source import StreamSource
from pipeline.watching.supervision import Supervision
from pipeline.watching.watch_settings import WatchSettings

TICK_S = 1.0
DAY_S = 86_400.0
FORGET_FILES_S = 30 * DAY_S
"""A file that is gone is forgotten so long after it was judged."""
MOST_UNWRITTEN = 1000
"""Outcomes kept in memory while the state cannot be written."""
LAST_DELIVERIES_S = 10.0
TRUSTED_PER_DAY = 1.0
"""More false alarms than this are not trusted for long, so the remedy is named at the start."""
STYLES = {"alarm": "bold red", "alarm_over": "green", "audio_back": "green", "source_back": "green"}
ALARMS_FOLDER = "alarms"


def watch(source: str, settings: WatchSettings) -> int:
    """Watch until it is stopped or the sources end; return the exit code.

    UsageError for settings that cannot be used; OSError or ValueError for a model or a state that
    cannot.
    """
    quiet = QuietHours.parse(settings.quiet_hours) if settings.quiet_hours else None
    choices = sources_of(
        source, machine=settings.machine, raw=settings.raw, no_audio=settings.no_audio
    )
    if settings.once and any(choice.folder is None for choice in choices):
        raise UsageError("--once is for folders; a stream ends by itself")
    relay_rooms(quiet=settings.quiet)
    with _only_watch(settings.out):
        state = WatchState(connect(settings.out / STATE_FILE))
        machines = open_machines(settings, state)
        sources = [_source(choice, settings, machines.listener) for choice in choices]
        deliveries = Deliveries(settings.out / STATE_FILE, [StandardOutput(), *sinks_of(settings)])
        watching = Watch(settings, choices, machines, state, deliveries, sources, quiet)
        with ExitStack() as stack:
            stack.enter_context(_stopped_by_sigterm(watching.stop))
            if page := page_of(settings, settings.out / STATE_FILE, machines.alarms.path):
                stack.enter_context(page)
                messages.print(f"the page is at {page.url}")
            return watching.run()


def open_machines(settings: WatchSettings, state: WatchState) -> Machines:
    """Open the model, and what is kept of its machines; UsageError for wrong settings."""
    rules = AlarmRules.parse(settings.confirm, seconds_of(settings.cooldown, "--cooldown"))
    most_bytes = bytes_of(settings.keep_sound, "--keep-sound")
    alarms = AlarmsFolder(
        settings.out / ALARMS_FOLDER, most_bytes, lambda text: say("warning", text, "yellow")
    )
    listener = _listener(settings)
    version = sha256_of(listener.checker.model.path / "model.json")
    return Machines(listener, rules, alarms, version, state)


@dataclass
class Watch:
    """A watch that runs."""

    settings: WatchSettings
    choices: Sequence[SourceChoice]
    machines: Machines
    state: WatchState
    deliveries: Deliveries
    sources: Sequence[Source]
    quiet: QuietHours | None = None
    clock: Callable[[], float] = time.time
    stop: threading.Event = field(default_factory=threading.Event)
    n_alarms: int = 0
    n_unjudged: int = 0
    _has_failed: bool = False
    _unwritten: deque[tuple[Outcome, bool]] = field(default_factory=deque)
    _is_unwritable: bool = False
    _said: dict[str, str] = field(default_factory=dict)
    """What was said last of each file that could not be read."""
    _next_tidying: float = 0.0

    def run(self) -> int:
        """Take in what the sources give until all have ended or `stop` is set."""
        supervision = Supervision(self.sources, stop=self.stop)
        began = self.clock()
        self.machines.resume()
        self._expect_streams()
        self._introduce()
        self.deliveries.start()
        supervision.start()
        running = {source.name for source in self.sources}
        next_tick = 0.0
        try:
            while running and not self.stop.is_set():
                item = supervision.next(TICK_S)
                if isinstance(item, Ended):
                    running.discard(item.source)
                elif item is not None:
                    self._take(item)
                if time.monotonic() >= next_tick:
                    self._tick(began)
                    next_tick = time.monotonic() + TICK_S
            self._tick(0.0 if self.settings.once else began)
        finally:
            supervision.close()
            waiting = self.deliveries.close(LAST_DELIVERIES_S)
            self.state.close()
        if waiting:
            messages.print(f"not delivered yet: {waiting}; the next watch delivers what waits")
        return self._exit_code()

    def _exit_code(self) -> int:
        if self._has_failed and self.settings.once:
            return FAILED
        if not self.settings.once:
            return FAILED if self._has_failed and len(self.sources) == 1 else DONE
        return ANOMALOUS if self.n_alarms else CLIPS_LEFT_OUT if self.n_unjudged else DONE

    def _take(self, item: Item) -> None:
        """Judge one item, and write what follows from it."""
        if isinstance(item, NewFile):
            self._take_file(item)
        elif isinstance(item, NewWindow):
            self._write(self.machines.stream_window(item))
        elif isinstance(item, Failed):
            restarts = next(s.restarts for s in self.sources if s.name == item.source)
            self._has_failed = self._has_failed or not restarts or self.settings.once
            self._tell(telling.source_failed(item.source, item.reason, item.at, restarts=restarts))
            if self.settings.once:
                self.stop.set()
        elif isinstance(item, Back):
            self._tell(telling.source_back(item.source, item.at))

    def _take_file(self, new: NewFile) -> None:
        key = f"{new.source}: {new.version.path}"
        try:
            outcome = self.machines.file(new)
        except ToBeReadAgain as reason:
            if self._said.get(key) != str(reason) and new.path.exists():
                say("warning", f"{key}: {reason}; it is tried again", "yellow")
                self._said[key] = str(reason)
            self._let_go(new)
            return
        self._said.pop(key, None)
        self._write(outcome)

    def _let_go(self, new: NewFile) -> None:
        for source in self.sources:
            if source.name == new.source:
                source.finished(new.version)

    def _tell(self, message: Message) -> None:
        self._write(Outcome(messages=[message]))

    def _write(self, outcome: Outcome) -> None:
        """Say what a person should read, and write the outcome; it waits where that fails."""
        if outcome.problem:
            self.n_unjudged += 1
            say("warning", outcome.problem, "yellow")
        for message in outcome.messages:
            self.n_alarms += message.kind == "alarm"
            say(
                message.kind.replace("_", " "), message.sentence, STYLES.get(message.kind, "yellow")
            )
        self._unwritten.append((outcome, self._is_quiet()))
        self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the outcomes that wait, in their order; what fails is tried again."""
        try:
            while self._unwritten:
                outcome, is_quiet = self._unwritten[0]
                self.state.write(outcome, self.deliveries.names, is_quiet=is_quiet)
                self._unwritten.popleft()
                if outcome.file:
                    for source in self.sources:
                        if source.name == outcome.file.source:
                            source.finished(outcome.file)
            if self._is_unwritable:
                messages.print("the state is written again")
            self._is_unwritable = False
        except sqlite3.Error as error:
            self._note_unwritable(error)
            if len(self._unwritten) > MOST_UNWRITTEN:
                self._drop_windows()

    def _note_unwritable(self, error: sqlite3.Error) -> None:
        if not self._is_unwritable:
            path = self.settings.out / STATE_FILE
            say("error", f"{path} cannot be written: {one_line(error)}; watching goes on", "red")
        self._is_unwritable = True

    def _drop_windows(self) -> None:
        """Let go of windows without messages, the oldest first: memory must not grow for ever."""
        for i, (outcome, _) in enumerate(self._unwritten):
            if not outcome.messages and not outcome.file:
                del self._unwritten[i]
                return

    def _is_quiet(self) -> bool:
        now = datetime.fromtimestamp(self.clock()).time()
        return self.quiet is not None and self.quiet.covers(now)

    def _tick(self, since: float) -> None:
        """Do what time asks for: silence is told, quiet hours end, old files are forgotten."""
        no_audio = {choice.name: choice.no_audio_s for choice in self.choices}
        outcome = self.machines.check_audio(no_audio, since)
        if outcome.messages or self._unwritten:
            self._write(outcome)
        try:
            if not self._is_quiet() and self.state.has_held():
                self.state.release_held(self.deliveries.names)
            if self.clock() >= self._next_tidying:
                self._next_tidying = self.clock() + DAY_S
                self.state.forget_files(self.clock() - FORGET_FILES_S, self._is_there)
        except sqlite3.Error as error:
            self._note_unwritable(error)

    def _is_there(self, source: str, path: str) -> bool:
        folder = next((c.folder for c in self.choices if c.name == source), None)
        return folder is None or (folder / path).exists()

    def _expect_streams(self) -> None:
        for choice in self.choices:
            if choice.folder is None:
                self._write(self.machines.expect(choice.machine, choice.name))

    def _introduce(self) -> None:
        """Say what is watched, and how many false alarms to expect."""
        if self.settings.quiet:
            return
        checker, rules = self.machines.listener.checker, self.machines.rules
        names = ", ".join(choice.name for choice in self.choices)
        messages.print(
            f"watching {names} by {checker.model.path}; an alarm needs {rules.needed} anomalous "
            f"windows of {rules.of}; state and sounds are in {self.settings.out}"
        )
        by_rate: dict[float, list[str]] = {}
        for machine in checker.model.names:
            judge = checker.judge_of(machine)
            by_rate.setdefault(judge.false_alarms, []).append(judge.name)
        hop_s = self.machines.listener.usual_hop_s
        for rate, machines in by_rate.items():
            messages.print(_expectation(rules, rate, hop_s, machines))


def _expectation(rules: AlarmRules, rate: float, hop_s: float, machines: Sequence[str]) -> str:
    """Say how many false alarms machines give that are well, and what would make them fewer."""
    some = ", ".join(machines[:3]) + (f" and {len(machines) - 3} more" if len(machines) > 3 else "")
    if not rate:
        return f"{some}: no alarms, since the model has no threshold"
    per_day = rules.most_false_alarms_per_day(rate, hop_s)
    text = (
        f"{some}: at most {per_day:.2g} false alarms a day for each are expected ({100 * rate:.3g} "
        f"% of windows, one every {hop_s:g} s)"
    )
    if per_day <= TRUSTED_PER_DAY:
        return text
    stricter = rules.stricter(rate, hop_s, TRUSTED_PER_DAY)
    if stricter is None:
        return f"{text}; learn with a lower --false-alarms for fewer"
    fewer = stricter.most_false_alarms_per_day(rate, hop_s)
    return f"{text}; --confirm {stricter.needed}/{stricter.of} makes it {fewer:.2g}"


def _listener(settings: WatchSettings) -> Listener:
    """Open the model for judging."""
    evidence: list[Any] = []
    checker = Checker(
        read_model(settings.model),
        device=settings.device,
        offline=settings.offline,
        trust_classes=settings.trust_classes,
        explains=True,
        on_evidence=evidence.append,
    )
    for flag, seconds in (("--window", settings.window), ("--hop", settings.hop)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise UsageError(f"{flag} {seconds:g}: expected seconds above 0")
    level, from_model = _off_below(settings.off_below)
    return Listener(checker, settings.window, settings.hop, level, from_model, evidence)


def _off_below(text: str) -> tuple[float | None, bool]:
    """Read --off-below: the level, and whether the model says it."""
    if text in ("auto", "none"):
        return None, text == "auto"
    try:
        return float(text), False
    except ValueError:
        raise UsageError(
            f"--off-below {text}: expected a level in dBFS such as -60, auto, or none"
        ) from None


def _source(choice: SourceChoice, settings: WatchSettings, listener: Listener) -> Source:
    """Make a source; UsageError or ValueError where its machine or its format is not known."""
    from embed.recordings.new_clips import names_of
    from embed.recordings.streams import RawFormat

    model = listener.checker.model
    if choice.folder is not None:
        return FolderSource(
            choice.name,
            choice.folder,
            names_of(list(model.names)),
            settings.out / STATE_FILE,
            settle_s=seconds_of(settings.settle, "--settle"),
            machine=model.find(choice.machine) if choice.machine else None,
            once=settings.once,
        )
    listener.machine(choice.machine)
    if choice.microphone is not None:
        return MicrophoneSource(choice.name, listener.cut, choice.machine, choice.microphone)
    raw = RawFormat.parse(choice.raw) if choice.raw else None
    return StreamSource(choice.name, listener.cut, choice.machine, raw, choice.command or ())


@contextmanager
def _only_watch(folder: Path) -> Iterator[None]:
    """Hold the folder of the state; ValueError where another watch does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "watch.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"another watch keeps its state in {folder}; stop it, or choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _stopped_by_sigterm(stop: threading.Event) -> Iterator[None]:
    """End the watch in order when systemd or Docker asks for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
