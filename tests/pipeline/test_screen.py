"""What a person hears of long work where there is no screen."""

import pytest

from pipeline import screen


def test_what_goes_on_is_printed_now_and_then_where_there_is_no_screen(monkeypatch, capsys):
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(now))

    with screen.progress("fit", 2, "fits", quiet=False) as advance:
        for epoch in range(20):
            advance.tell(f"epoch {epoch}")
        advance()

    lines = capsys.readouterr().err.splitlines()
    assert 2 < sum(line.startswith("fit: epoch ") for line in lines) < 15
    assert lines[-1].startswith("fit: 1 fit in ")


@pytest.mark.parametrize("n", [1, 20])
def test_quiet_work_says_nothing(n, monkeypatch, capsys):
    monkeypatch.setattr(screen, "SECONDS_PER_LINE", 0.0)

    with screen.progress("fit", n, "fits", quiet=True) as advance:
        for _ in range(n):
            advance.tell("epoch 1")
            advance()

    assert capsys.readouterr().err == ""
