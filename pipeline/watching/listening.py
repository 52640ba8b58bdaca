"""What the model says of new sound: each window of a file or stream, judged once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pipeline.checking import STREAM_WINDOW_S, Checker, Evidence, sound_of
from pipeline.explaining import file_rate_of
from pipeline.new_vectors import (
    EncodedWindow,
    as_recorded,
    clip_window,
    encoded,
    sample_rates,
    window_vectors,
)
from pipeline.rating import Checked, Judge
from pipeline.watching.source import Cut, NewFile, NewWindow
from pipeline.windowing import Windows

OFF_MARGIN_DB = 10.0
"""By default a machine is off so far below its quietest normal recording."""


@dataclass(frozen=True)
class Heard:
    """One window of a machine, judged."""

    row: Checked
    judge: Judge
    window: EncodedWindow
    level_dbfs: float
    hop_s: float
    """Seconds from this window to the next, where the recording goes on."""
    file_rate: int = 0
    """Sample rate of the recording in Hz, 0 where it is not known."""

    @property
    def machine(self) -> str:
        return self.judge.name

    @property
    def seconds(self) -> float:
        return self.window.end_s - self.window.start_s


@dataclass
class Listener:
    """Judges what the sources hand over."""

    checker: Checker
    window: float | None = None
    hop: float | None = None
    off_below_dbfs: float | None = None
    """Below this level a machine is off, where it is the same for all."""
    takes_off_from_model: bool = True
    """Whether the level is taken from what each machine sounded like when it was learned."""
    evidence: list[Evidence] = field(default_factory=list)
    """Filled by the checker, which is made with `on_evidence=evidence.append`."""

    @property
    def windows(self) -> Windows | None:
        """How recordings are cut; None where each file is one clip."""
        windows = self.checker.windows_by(self.window, self.hop)
        return replace(windows, hop_s=windows.length_s) if windows and not self.hop else windows

    @property
    def cut(self) -> Cut:
        """How streams are cut; ValueError for a model that takes several sample rates."""
        rates = sample_rates(self.checker.parts)
        if len(rates) > 1:
            raise ValueError(
                f"the model's encoders take {' and '.join(map(str, rates))} Hz, and a stream is "
                "read at one rate only; watch a folder, or learn a model of one rate"
            )
        windows = self.windows or Windows(STREAM_WINDOW_S, self.hop or STREAM_WINDOW_S)
        return Cut(rates[0], windows.length_s, windows.hop_s, as_recorded(self.checker.parts))

    @property
    def usual_hop_s(self) -> float:
        """Seconds from window to window, or of a clip as it was learned."""
        windows = self.windows
        if windows is not None:
            return windows.hop_s
        judge = self.checker.judge_of(next(iter(self.checker.model.names)))
        profile = judge.loaded.profile
        return profile.ranges.least.seconds if profile else STREAM_WINDOW_S

    def file(self, new: NewFile) -> Iterator[Heard]:
        """Judge the windows of a file, or the file as one clip.

        ValueError for what is wrong with it, after the windows before it.
        """
        judge = self.checker.judge_of(self.checker.machine_called(new.machine))
        windows, parts = self.windows, self.checker.parts
        if windows is None:
            stream = iter([clip_window(parts, new.path)])
        else:
            stream = window_vectors(parts, new.path, windows.length_s, windows.hop_s)
        rate = 0
        for window in stream:
            rate = rate or file_rate_of(new.path)
            hop_s = windows.hop_s if windows else window.end_s
            yield self._heard(judge, window, new.version.path, hop_s, rate)

    def stream_window(self, new: NewWindow) -> Heard:
        """Judge a window of a stream; ValueError where that cannot be done."""
        judge = self.checker.judge_of(self.machine(new.machine))
        (window,) = encoded(self.checker.parts, [new.by_rate])
        return self._heard(judge, window, new.source, self.cut.hop_s, 0)

    def machine(self, named: str) -> tuple[str, str]:
        """Find the machine that a person calls so; ValueError where there is none."""
        return self.checker.machine_called((named, ""))

    def off_below(self, judge: Judge) -> float | None:
        """Return the level in dBFS below which a machine is off; None where there is none."""
        if not self.takes_off_from_model:
            return self.off_below_dbfs
        profile = judge.loaded.profile
        return None if profile is None else profile.ranges.least.level_dbfs - OFF_MARGIN_DB

    def explained(self, heard: Heard) -> tuple[Checked, Evidence | None]:
        """Say why a window is anomalous, with what a picture of it needs."""
        self.evidence.clear()
        sound = sound_of(heard.window, heard.file_rate)
        row = self.checker.described(heard.judge, heard.row, sound, heard.window.rows)
        return row, self.evidence.pop() if self.evidence else None

    def _heard(
        self, judge: Judge, window: EncodedWindow, key: str, hop_s: float, file_rate: int
    ) -> Heard:
        from embed.recording_facts import level_dbfs

        (row,) = judge.rows([key], [window.rows])
        timed = replace(row, start_s=window.start_s, end_s=window.end_s)
        return Heard(timed, judge, window, level_dbfs(window.waveform), hop_s, file_rate)


def picture_of(evidence: Evidence) -> bytes:
    """Draw the spectrogram of a window and why it is anomalous, as PNG."""
    import io

    from report.reason_picture import draw_reason

    file = io.BytesIO()
    draw_reason(file, evidence.frames, evidence.profile.sounds, evidence.reason)
    return file.getvalue()
