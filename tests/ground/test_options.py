"""Values of options are checked by the annotations of their class."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from ground.options import Count, Dropout, NotNegative, Positive, Share, check_options


@dataclass
class Machine:
    count: Count = 1
    positive: Positive = 1.0
    not_negative: NotNegative = 0.0
    share: Share = 1.0
    dropout: Dropout = 0.0
    widths: tuple[Count, ...] = (1,)
    gamma: Literal["scale", "auto"] | Positive = "scale"
    flag: bool = False


@pytest.mark.parametrize(
    "options",
    [
        {"count": 3}, {"count": np.int64(3)}, {"positive": 2}, {"positive": np.float32(0.5)},
        {"not_negative": 0}, {"share": 1}, {"dropout": 0.5}, {"widths": (3, 4)}, {"widths": [3]},
        {"gamma": "auto"}, {"gamma": 0.1}, {"flag": True},
    ],
)  # fmt: skip
def test_values_that_can_be_are_accepted(options):
    check_options(Machine, options)


@pytest.mark.parametrize(
    "options",
    [
        {"count": 0}, {"count": True}, {"count": "3"}, {"count": 1.5}, {"positive": 0},
        {"positive": float("inf")}, {"positive": float("nan")}, {"not_negative": -1},
        {"share": 1.1}, {"dropout": 1}, {"widths": (3, 0)}, {"widths": 3}, {"gamma": "none"},
        {"gamma": -1}, {"flag": 1},
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_refused_by_name(options):
    (name,) = options

    with pytest.raises(ValueError, match=rf"^machine\.{name} should .*; got "):
        check_options(Machine, options, "machine")


def test_classes_of_scikit_learn_are_checked_by_its_rules():
    from sklearn.ensemble import IsolationForest

    with pytest.raises(ValueError, match="n_estimators"):
        check_options(IsolationForest, {"n_estimators": -1})
