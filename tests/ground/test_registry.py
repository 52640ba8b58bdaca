"""A name gives a class: a registered one, or somebody else's by its place."""

import pytest

from ground.registry import Row, find_row, is_own_class, split_name

REGISTRY = {"path": Row("pathlib:Path", "a path"), "hf": Row("pathlib:Path", "takes a model")}


def test_a_registered_name_gives_its_class():
    from pathlib import Path

    assert find_row("path", REGISTRY, "encoder").resolve() is Path


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown encoder 'paht': did you mean 'path'\?"):
        find_row("paht", REGISTRY, "encoder")


def test_a_class_from_outside_is_found_by_its_place():
    from fractions import Fraction

    assert is_own_class("fractions:Fraction", REGISTRY)
    assert find_row("fractions:Fraction", REGISTRY, "detector").resolve() is Fraction


def test_a_model_of_a_registered_name_is_no_class():
    assert not is_own_class("hf:model", REGISTRY)
    assert split_name("hf:facebook/hubert:x") == ("hf", "facebook/hubert:x")


@pytest.mark.parametrize("target", ["no_such_module:Class", "fractions:NoSuchClass"])
def test_a_class_that_is_not_there_is_named(target):
    with pytest.raises(ValueError, match=f"{target} cannot be used"):
        find_row(target, REGISTRY, "detector").resolve()


def test_a_module_that_is_not_found_is_told_how_to_be_found():
    with pytest.raises(ValueError, match=r"No module named 'no_such_module'; PYTHONPATH=\. finds"):
        find_row("no_such_module:Class", REGISTRY, "detector").resolve()

    with pytest.raises(ValueError, match=r"NoSuchClass'$"):
        find_row("fractions:NoSuchClass", REGISTRY, "detector").resolve()
