"""Credentials come from the environment or a file, and are shown nowhere."""

import pytest

from pipeline.exits import UsageError
from pipeline.watching.credentials import credential, environment_without_credentials


def test_a_credential_is_read_from_the_environment_or_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("WATCH_A", "from the environment")
    monkeypatch.setenv("WATCH_B_FILE", str(tmp_path / "secret"))

    assert credential("WATCH_A").value == "from the environment"
    assert credential("WATCH_B").value == "from a file"
    assert not credential("WATCH_C")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"WATCH_A": "s3cret", "WATCH_A_FILE": "x"}, "both WATCH_A and WATCH_A_FILE"),
        ({"WATCH_A_FILE": "/nowhere/s3"}, "No such file"),
        ({"WATCH_A": ""}, "is empty"),
        ({"WATCH_A": "s3cret\r\nX-Other: 1"}, "cannot be printed"),
    ],
)
def test_a_credential_that_cannot_be_used_is_refused_without_showing_it(
    values, expected, monkeypatch
):
    for name, value in values.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(UsageError, match=expected) as refused:
        credential("WATCH_A")

    assert "s3cret" not in str(refused.value)


def test_neither_a_representation_nor_a_started_command_has_a_credential(monkeypatch):
    monkeypatch.setenv("WATCH_A", "s3cret")

    assert "s3cret" not in repr(credential("WATCH_A"))
    assert "s3cret" not in environment_without_credentials().values()
