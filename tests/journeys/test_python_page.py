"""The blocks of docs/python.md run from top to bottom."""

import re
from pathlib import Path

from embed.recordings import demo

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_python_page_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    """A smaller demo is recorded, so that this takes seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "N_TRAIN", 12)
    monkeypatch.setattr(demo, "N_TEST_NORMAL", 3)
    monkeypatch.setattr(demo, "N_TEST_ANOMALOUS", 3)
    page = PAGE.read_text(encoding="utf-8")
    names = {}

    for found in BLOCK.finditer(page):
        line = page[: found.start(1)].count("\n")
        exec(compile("\n" * line + found[1], str(PAGE), "exec"), names)

    printed = capsys.readouterr().out
    assert "slider/test/anomaly_id_00_00000000.wav" in printed
    assert names["X"].shape == (12, 128)
    assert names["quiet"].shape == (1, 64)
    assert set(names["calls"]) <= {1, -1}
    assert names["checks"].rows[0].verdict in {"normal", "suspicious", "anomalous"}
    assert {row.machine_id for row in names["job"].outcomes[0].results} >= {"id_00", "mean"}
