"""Menus: modules whose names live in other modules, which are imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ground.text import nearest_hint


def loaded_on_use(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module; `homes` maps each name to the module that has it."""

    def load(name: str) -> Any:
        if name not in homes:
            hint = nearest_hint(name, homes)
            raise AttributeError(f"module {module!r} has no attribute {name!r}: {hint}")
        return getattr(import_module(homes[name]), name)

    return load
