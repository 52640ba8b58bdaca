"""skops without the seconds and the 180 MB that importing it takes.

skops lists the estimators of scikit-learn that it trusts, and that imports every module of
scikit-learn, with torch and pytest behind them. Few files hold one that needs to be looked up.
"""

from __future__ import annotations

import sys
import threading
from functools import cache
from importlib import import_module
from types import ModuleType

_LOCK = threading.Lock()


def lean_skops() -> ModuleType:
    """Return `skops.io`, or a copy of it that trusts no estimator of scikit-learn by itself.

    The copy is this project's alone: whoever imports skops gets it as it is.
    """
    with _LOCK:
        return sys.modules.get("skops.io") or _copy()


@cache
def _copy() -> ModuleType:
    import sklearn.utils

    list_estimators = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = lambda: []
    try:
        return import_module("skops.io")
    finally:
        sklearn.utils.all_estimators = list_estimators
        for name in [name for name in sys.modules if name.partition(".")[0] == "skops"]:
            del sys.modules[name]


@cache
def estimators() -> frozenset[str]:
    """Name the public estimators of scikit-learn, which skops trusts; this takes a second."""
    from sklearn.utils import all_estimators

    return frozenset(f"{cls.__module__}.{cls.__name__}" for _, cls in all_estimators())
