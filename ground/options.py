"""What values the options of a class can have: its annotations say so, and nothing else does.

Annotations are checked by pydantic, strictly: no text becomes a number. Classes of scikit-learn
without annotations are checked by scikit-learn's own rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from inspect import signature
from math import inf
from typing import Annotated, Any, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0), Lt(inf)]
NotNegative = Annotated[float, Ge(0), Lt(inf)]
Share = Annotated[float, Gt(0), Le(1)]
Dropout = Annotated[float, Ge(0), Lt(1)]


def check_options(cls: Any, options: Mapping[str, Any], name: str = "") -> None:
    """Raise ValueError for the first value that its option cannot have.

    `name` is the name of the class for the user: `knn.k should be a valid integer; got 'x'`.
    """
    annotations = get_type_hints(cls if is_dataclass(cls) else cls.__init__, include_extras=True)
    for option, value in options.items():
        if option in annotations and (problem := _problem(annotations[option], value)):
            raise ValueError(f"{f'{name}.' if name else ''}{option} {problem}; got {value!r}")
    if hasattr(cls, "_parameter_constraints") and options.keys() - annotations.keys():
        cls(**options)._validate_params()


def parameters_of(cls: Any) -> tuple[str, ...]:
    """Name the parameters of a class, in their order."""
    return tuple(signature(cls).parameters)


def _problem(annotation: Any, value: Any) -> str:
    """Say why a value does not fit, or "" where it does; a list may stand for a tuple."""
    from pydantic import ValidationError

    plain = value.item() if hasattr(value, "dtype") and not getattr(value, "shape", ()) else value
    problem = ""
    for form in [plain, tuple(plain)] if isinstance(plain, list) else [plain]:
        try:
            _adapter(annotation).validate_python(form, strict=True)
            return ""
        except ValidationError as error:
            reasons = dict.fromkeys(each["msg"].removeprefix("Input ") for each in error.errors())
            problem = " or ".join(reasons).replace(" or should be", " or")
    return problem


@lru_cache(maxsize=256)
def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # the type has a configuration of its own
        return TypeAdapter(annotation)
