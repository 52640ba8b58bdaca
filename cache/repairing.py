"""Set aside the files of a store that cannot be read at all, so that the rest can be used."""

from __future__ import annotations

import secrets
from pathlib import Path

from cache.failures import DamagedError, explaining
from cache.locking import locked
from cache.parts import header_in, load_part, parts_folder, parts_in
from cache.store import Tell
from cache.table import check_names


def set_aside_unreadable(path: Path, tell: Tell | None = None) -> list[Path]:
    """Rename the files of the store at `path` that are damaged beyond reading.

    Returns their new paths, which end in `.damaged`; nothing is deleted. The clips of these files
    are missing afterwards, and the next run computes them again.
    """
    path = path.absolute()
    folder = parts_folder(path)
    with locked(path, -1.0, tell, reading=False), explaining(path, "nothing was set aside"):
        moved = [_set_aside(part, path) for part in parts_in(folder) if not _can_load(part)]
        try:
            check_names(path)
            has_file = True
        except FileNotFoundError:
            has_file = False
        except DamagedError:
            moved.append(_set_aside(path, path))
            has_file = False
        try:
            header_in(folder)
        except DamagedError:
            if has_file:
                (folder / "store.json").unlink()  # the file has the header as well
            else:
                moved.append(_set_aside(folder, path))
    return moved


def _can_load(part: Path) -> bool:
    try:
        load_part(part)
    except DamagedError:
        return False
    return True


def _set_aside(damaged: Path, store: Path) -> Path:
    name = damaged.name if damaged.parent == store.parent else f"{store.stem}.{damaged.name}"
    return damaged.rename(store.with_name(f"{name}.{secrets.token_hex(2)}.damaged"))
