"""Registries: dict literals from a name to the place of a class and one line about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from ground.text import nearest_hint

OWN_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""`package.module:Class`, somebody else's class; importing it runs its code."""


@dataclass(frozen=True)
class Row:
    """One entry of a registry: where the class is, what it is, and the options that are fixed."""

    target: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Any:
        """Import and return the class; ValueError where there is none of that name."""
        module, _, name = self.target.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            is_elsewhere = isinstance(error, ModuleNotFoundError) and error.name == module
            remedy = "; PYTHONPATH=. finds modules in the current folder" if is_elsewhere else ""
            raise ValueError(f"{self.target} cannot be used: {error}{remedy}") from error


def split_name(name: str) -> tuple[str, str]:
    """Split NAME:MODEL, such as hf:facebook/hubert-base-ls960; the model is "" in NAME."""
    family, _, model = name.partition(":")
    return family, model


def is_own_class(name: str, registry: Mapping[str, Row]) -> bool:
    """Tell `package.module:Class` from a name of the registry."""
    return split_name(name)[0] not in registry and OWN_CLASS.fullmatch(name) is not None


def find_row(name: str, registry: Mapping[str, Row], kind: str) -> Row:
    """Return the entry of `name`, or one for `package.module:Class`.

    ValueError for an unknown name, with the nearest known one.
    """
    if is_own_class(name, registry):
        return Row(name, "a class from outside")
    if name not in registry:
        raise ValueError(f"unknown {kind} {name!r}: {nearest_hint(name, registry)}")
    return registry[name]
