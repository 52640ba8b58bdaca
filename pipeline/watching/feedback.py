"""A person's word on an alarm: normal or anomalous, kept beside the sound that it is about.

The sound is cut into the windows that were judged, as a folder per machine with `normal` and
`anomalous` recordings, which is a layout that `learn` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ground.file_names import file_name
from ground.files import write_whole
from pipeline.watching.kept_sound import flac
from pipeline.watching.state import STATE_FILE, Alarm, connect, find_alarm, note_feedback

Word = Literal["normal", "anomalous"]
FEEDBACK_FOLDER, ALARMS_FOLDER = "feedback", "alarms"


def give_feedback(name: str, word: Word, folder: Path) -> tuple[Alarm, Sequence[Path]]:
    """Note what a person says of an alarm, and keep its windows; return both.

    `name` is the id of the alarm, or its beginning, and `folder` that of the watch. A second word
    replaces the first. ValueError where there is no such alarm, FileNotFoundError where there is no
    watch.
    """
    if not (folder / STATE_FILE).is_file():
        raise FileNotFoundError(f"there is no watch in {folder}; name its folder with --out")
    with closing(connect(folder / STATE_FILE)) as connection:
        alarm = find_alarm(connection, name)
        kept = _keep(alarm, word, folder)
        note_feedback(connection, alarm.id, word)
    return replace(alarm, feedback=word), kept


def normal_windows(folder: Path, machine: str) -> list[tuple[str, Path]]:
    """List the windows of a machine's alarms that were called normal, with the alarm of each.

    FileNotFoundError where there is no watch.
    """
    if not (folder / STATE_FILE).is_file():
        raise FileNotFoundError(f"--with-feedback {folder}: there is no watch")
    kept = folder / FEEDBACK_FOLDER / file_name(machine) / "normal"
    return [(path.stem.rpartition("-")[0], path) for path in sorted(kept.glob("*.flac"))]


def _keep(alarm: Alarm, word: Word, folder: Path) -> list[Path]:
    """Cut the sound of an alarm into its windows; none where the sound is no longer kept."""
    import soundfile

    machine = folder / FEEDBACK_FOLDER / file_name(alarm.message.machine)
    for earlier in machine.glob(f"*/{alarm.id}-*.flac"):
        earlier.unlink()
    sound_file = folder / ALARMS_FOLDER / alarm.message.sound
    if not alarm.message.sound or not sound_file.is_file():
        return []
    samples, rate = soundfile.read(sound_file, dtype="int16")
    n_window = round(alarm.window_s * rate)
    kept = []
    for number in range(len(samples) // n_window):
        path = machine / word / f"{alarm.id}-{number:02d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, flac(samples[number * n_window : (number + 1) * n_window], rate))
        kept.append(path)
    return kept
