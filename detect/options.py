"""What values the options of a class can have: its annotations say so, and nothing else does.

An annotation is a type (`int`, `tuple[int, ...]`), a choice (`Literal["mean", "max"]`), a range
(`Count`, `Positive`) or several of these. Classes of scikit-learn without annotations are asked
by scikit-learn's own rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from inspect import signature
from math import isfinite
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

NOT_OPTIONS = frozenset({"random_state", "on_epoch", "device", "novelty"})
"""Parameters of detectors that a run sets, or nobody does."""


@dataclass(frozen=True)
class Allowed:
    """The numbers that an annotation allows, and how they are called."""

    says: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Allowed("of 1 or more", lambda n: n >= 1)]
CountOrZero = Annotated[int, Allowed("of 0 or more", lambda n: n >= 0)]
Positive = Annotated[float, Allowed("above 0", lambda x: x > 0 and isfinite(x))]
NotNegative = Annotated[float, Allowed("of 0 or more", lambda x: x >= 0 and isfinite(x))]
Share = Annotated[float, Allowed("above 0 and at most 1", lambda x: 0 < x <= 1)]
Dropout = Annotated[float, Allowed("of 0 or more and below 1", lambda x: 0 <= x < 1)]

KINDS: dict[Any, tuple[type, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "a text"),
    NoneType: (NoneType, "None"),
}


def check_options(cls: Any, options: Mapping[str, Any], name: str = "") -> None:
    """Raise ValueError for the first value that its option cannot have.

    `name` is how the user calls the class: `knn.k is a whole number of 1 or more; got 'x'`.
    """
    annotations = _annotations(cls)
    for option, value in options.items():
        expected = annotations.get(option)
        if expected is not None and not _is_one_of(value, expected):
            raise ValueError(
                f"{f'{name}.' if name else ''}{option} is {_said(expected)}; got {value!r}"
            )
    if hasattr(cls, "_parameter_constraints") and options.keys() - annotations.keys():
        cls(**options)._validate_params()


def check_own_options(estimator: Any) -> None:
    """Raise ValueError for the first option of an estimator that has a value it cannot have."""
    own = estimator.get_params(deep=False)
    check_options(type(estimator), {k: v for k, v in own.items() if k not in NOT_OPTIONS})


def option_names(cls: Any) -> tuple[str, ...]:
    """Name the options of a detector's class, in the order of its parameters."""
    return tuple(name for name in signature(cls).parameters if name not in NOT_OPTIONS)


def _annotations(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls if is_dataclass(cls) else cls.__init__, include_extras=True)


def _is_one_of(value: Any, expected: Any) -> bool:
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return _is_one_of(value, parts[0]) and all(each.holds(value) for each in parts[1:])
    if origin in (Union, UnionType):
        return any(_is_one_of(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple:  # of any length
        is_list = isinstance(value, tuple | list) and len(value) > 0
        return is_list and all(_is_one_of(each, parts[0]) for each in value)
    if expected in KINDS:
        return isinstance(value, KINDS[expected][0]) and (
            expected is bool or not isinstance(value, bool)
        )
    return callable(value) if origin is not None else isinstance(value, expected)


def _said(expected: Any) -> str:
    origin, parts = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return " ".join([_said(parts[0]), *(each.says for each in parts[1:])])
    if origin in (Union, UnionType):
        return _any_of([_said(part) for part in parts])
    if origin is Literal:
        return _any_of([str(part) for part in parts])
    if origin is tuple:
        return f"a list in brackets, each {_said(parts[0])}"
    return KINDS[expected][1] if expected in KINDS else f"a {expected}"


def _any_of(words: list[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} or {last}" if before else last
