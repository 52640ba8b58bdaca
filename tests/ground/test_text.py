"""Messages are one line, and nothing in a name reaches the terminal as a command."""

import errno
import os

import pytest

from ground.text import nearest_hint, one_line, visible


def test_an_error_is_one_line_without_escape_sequences():
    assert one_line(ValueError("two\nlines \x1b[31mred\x1b[0m")) == "two lines \\x1b[31mred\\x1b[0m"


def test_an_error_without_a_text_is_its_type():
    assert one_line(MemoryError()) == "MemoryError"


def test_a_key_error_is_said_without_its_quotes():
    assert one_line(KeyError("3 clips are not there")) == "3 clips are not there"


def test_accents_and_other_scripts_stay_and_direction_overrides_do_not():
    assert visible("Gerät 風扇") == "Gerät 風扇"
    assert visible("a\u202eb") == "a\\u202eb"


def test_the_nearest_name_is_offered_or_else_all():
    assert nearest_hint("mahalanobs", ["knn", "mahalanobis"]) == "did you mean 'mahalanobis'?"
    assert nearest_hint("zzz", ["knn", "gmm"]) == "one of knn, gmm"


def test_a_message_of_any_length_is_a_line_that_can_be_read():
    assert len(one_line(ValueError("x\n" * 100_000))) < 2_010


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_disk_is_said_with_the_path_and_what_to_do(number):
    said = one_line(OSError(number, os.strerror(number), "runs/log.jsonl"))

    assert said.startswith("runs/log.jsonl: the disk is ")
    assert "another" in said
