"""A pretrained encoder has one name, and takes its weights from the row of that name."""

from dataclasses import dataclass, fields

import pytest

from embed import ENCODERS, encoder_row, make_encoder
from embed.encoders.panns import Cnn14
from fetch.weights import WEIGHTS

NETWORKS = [
    name
    for name in ENCODERS
    if name != "hf" and "weights" in {f.name for f in fields(encoder_row(name).resolve())}
]


@pytest.mark.parametrize("name", NETWORKS)
def test_an_encoder_knows_its_name_in_the_registry(name: str) -> None:
    assert make_encoder(name, weights="random").registered_name == name
    assert WEIGHTS[name].encoder == name


def test_the_table_of_weights_has_no_row_without_an_encoder() -> None:
    assert {name.partition("-")[0] for name in WEIGHTS} == set(NETWORKS)  # without the variant


@dataclass(frozen=True, kw_only=True)
class FineTuned(Cnn14):
    """Somebody's own class, which has no row in the registry."""


def test_a_class_derived_from_an_encoder_has_its_weights() -> None:
    assert FineTuned(weights="random").registered_name == "panns"


def test_a_model_for_an_encoder_that_takes_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^panns takes no model; only hf:MODEL does$"):
        make_encoder("panns:foo")
