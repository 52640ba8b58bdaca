"""Figures that an earlier run drew from the same numbers: a copy spares the seconds of drawing."""

from __future__ import annotations

import hashlib
import heapq
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ground.files import write_whole
from ground.versions import installed_version
from report.machine_scores import MachineScores

SEARCHED = 8
"""So many of the newest runs beside this one are looked at."""
END = 12
"""Bytes of the chunk that ends a PNG."""

Draw = Callable[[Path, Sequence[MachineScores]], bool]


def draw_or_copy(path: Path, machines: Sequence[MachineScores], draw: Draw) -> bool:
    """Draw a figure to a PNG, or copy the same one of an earlier run; False where there is none.

    A figure holds the hash of what it was drawn from. Runs are the folders beside that of `path`,
    whose names begin with the time.
    """
    mark = _mark(machines, path.name)
    for earlier in heapq.nlargest(SEARCHED, path.parent.parent.glob(f"*/{path.name}")):
        with suppress(OSError):  # a folder that cannot be read holds nothing to copy
            content = earlier.read_bytes()
            if content[:-END].endswith(mark):
                write_whole(path, content)
                return True
    if not draw(path, machines):
        return False
    content = path.read_bytes()
    write_whole(path, content[:-END] + mark + content[-END:])
    return True


def _mark(machines: Sequence[MachineScores], name: str) -> bytes:
    """Hash all that a figure depends on but the fonts that are installed, as a chunk of a PNG."""
    drawn_from = hashlib.sha256(f"{name} {installed_version('matplotlib')}".encode())
    for module in ("figures.py", "machine_scores.py"):
        drawn_from.update(Path(__file__).with_name(module).read_bytes())
    for machine in machines:
        drawn_from.update(repr((machine.name, machine.labels, machine.result)).encode())
        drawn_from.update(machine.scores.tobytes())
    chunk = b"tEXtDrawn from\0" + drawn_from.hexdigest().encode()
    return (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
