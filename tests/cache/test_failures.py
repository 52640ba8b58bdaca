"""Errors of the disk: they name the path and what to do, and cross processes."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from cache.failures import DamagedError, DamagedRowsError, explaining, reason_of

PATH = Path("/cache/x.h5")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space, or use another --cache-dir"),
        (errno.EDQUOT, "your disk quota is used up"),
        (errno.EROFS, "the disk is read-only; use another --cache-dir"),
        (errno.EACCES, "no permission to write here"),
        (errno.ENAMETOOLONG, "the path is too long for this file system"),
    ],
)
def test_an_error_of_the_system_names_the_path_and_what_to_do(code, advice):
    with (
        pytest.raises(OSError, match=f"3 vectors were not kept: {advice}") as raised,
        explaining(PATH, "3 vectors were not kept"),
    ):
        raise OSError(code, os.strerror(code))

    assert raised.value.errno == code
    assert raised.value.filename == str(PATH)


def test_an_error_that_is_explained_already_keeps_its_words():
    assert reason_of(OSError(errno.ENOSPC, "4 GB are needed")) == "4 GB are needed"
    assert "free some space" in reason_of(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def test_damaged_rows_are_an_oserror_with_all_keys_and_pickle():
    error = pickle.loads(pickle.dumps(DamagedRowsError(PATH, ["a.wav", "b.wav"])))

    assert isinstance(error, OSError)
    assert error.keys == ("a.wav", "b.wav")
    assert "the vectors of 2 clips, first 'a.wav', are damaged" in str(error)
    assert str(pickle.loads(pickle.dumps(DamagedError(PATH, "cut")))) == str(
        DamagedError(PATH, "cut")
    )
