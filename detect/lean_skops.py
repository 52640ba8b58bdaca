"""skops without the second and the 180 MB that importing it takes.

skops lists the estimators of scikit-learn and the functions of scipy that it trusts. That imports
every module of scikit-learn, with torch and pytest behind them. Few files hold one of those.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from importlib import import_module
from types import ModuleType
from unittest.mock import patch

_LOCK = threading.Lock()


def lean_skops() -> ModuleType:
    """Return `skops.io`, or a copy of it that trusts less: nothing of scikit-learn and scipy.

    The copy is this project's alone: whoever imports skops gets it as it is.
    """
    with _LOCK:
        return sys.modules.get("skops.io") or _copy()


@cache
def _copy() -> ModuleType:
    import scipy.special
    import sklearn.utils

    nothing = list  # called without arguments, as both are
    try:
        with (
            patch.object(sklearn.utils, "all_estimators", nothing),
            patch.object(scipy.special, "__dir__", nothing, create=True),
        ):
            return import_module("skops.io")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "skops"]:
            del sys.modules[name]


def whole_skops() -> ModuleType:
    """Return `skops.io` with all that it trusts."""
    return import_module("skops.io")
