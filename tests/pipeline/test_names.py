"""What a user may type: names, classes from outside, options and their values."""

import pytest

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.exits import UsageError
from pipeline.names import assignment, check_name, names_of, own_classes, set_options, value_of


def test_names_are_split_and_each_counts_once():
    assert names_of(" knn, gmm,,knn", DETECTORS, "detector") == ["knn", "gmm"]


@pytest.mark.parametrize(
    ("name", "registry", "kind"),
    [
        ("knnn", DETECTORS, "detector"),
        ("panns:model", ENCODERS, "encoder"),
        ("package.module:Class", POOLINGS, "pooling"),
    ],
)
def test_an_unknown_name_is_refused(name, registry, kind):
    with pytest.raises(UsageError, match=f"unknown {kind} '{name}'"):
        check_name(name, registry, kind)


@pytest.mark.parametrize("name", ["hf:facebook/hubert-base-ls960", "package.module:Class"])
def test_models_of_hf_and_classes_from_outside_are_names(name):
    check_name(name, ENCODERS, "encoder")

    assert own_classes(f"logmel,{name}", ENCODERS) == ([] if "hf:" in name else [name])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("knn.k=3", ("knn", "k", "3")),
        ("package.module:Class.p=a=b", ("package.module:Class", "p", "a=b")),
        ("hf:a.b/c.layer=2", ("hf:a.b/c", "layer", "2")),
    ],
)
def test_an_assignment_is_name_option_and_value(text, parts):
    assert assignment("--set", text) == parts


@pytest.mark.parametrize("text", ["", "knn", "knn.k", "knn=3", ".k=3", "knn.=3"])
def test_half_an_assignment_is_refused(text):
    with pytest.raises(UsageError, match=r"expected NAME\.option=value"):
        assignment("--set", text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("[16,8]", (16, 8)),
        ("scale", "scale"),
        ("", ""),
        ("(" * 5000, "(" * 5000),
        ("__import__('os')", "__import__('os')"),
    ],
)
def test_a_value_is_a_number_a_boolean_a_list_or_a_word(text, value):
    found = value_of(text)

    assert (type(found), found) == (type(value), value)


def test_options_are_those_of_the_name_its_family_and_its_kind():
    assignments = ["hf.layer=1", "encoder.pooled=2", "knn.k=3", "hf:model.layer=4"]

    assert set_options(assignments, "encoder", "hf:model") == {"layer": 4, "pooled": 2}
    assert set_options(assignments, "detector", "knn") == {"k": 3}
