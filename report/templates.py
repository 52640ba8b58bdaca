r"""The templates beside this file, filled: names from outside are shown as they are, never obeyed.

Everything is escaped for HTML, and control characters are written as `\x1b` and the like.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.text import visible
from report.tables import percent

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Fill a template of this room."""
    return _environment().get_template(template).render(**values)


def script(name: str) -> tuple[Any, str]:
    """Read a script beside this file as HTML, and its hash, so that a page runs no other one."""
    from markupsafe import Markup

    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).digest()
    return Markup(text), base64.b64encode(digest).decode()  # noqa: S704  (it is our own file)


def json_block(value: Any) -> Any:
    """Write JSON for a block of a page: no text in it can end the block, or be markup."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704


@cache
def _environment() -> Environment:
    """Make the environment of the templates; all text from outside is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        finalize=_shown,
    )
    environment.filters["figure"] = _figure
    environment.filters["number"] = _number
    environment.filters["percent"] = _percent
    environment.filters["heat"] = _heat
    environment.filters["across"] = _across
    return environment


def _shown(value: Any) -> Any:
    """Replace the control characters of a text; what is HTML already stays."""
    return visible(value) if type(value) is str else value


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _number(value: float | None) -> str:
    """Write a number for a script to sort by; nothing where there is none."""
    return "" if value is None else repr(float(value))


def _percent(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _heat(auc: float) -> int:
    """Place an AUC between chance (0) and perfect (100)."""
    return round(100 * min(max((auc - 0.5) / 0.5, 0.0), 1.0))


def _across(share: float) -> float:
    """Place a share between the left (0) and the right end (100) of a scale."""
    return round(100 * min(max(share, 0.0), 1.0), 2)
