"""The blocks of docs/python.md and the cells of the notebook run from top to bottom."""

import json
import re
from pathlib import Path

import pytest

from embed.recordings import demo

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def small_demo(tmp_path, monkeypatch):
    """A folder of its own, where `data="demo"` records 54 clips instead of 300."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "N_TRAIN", 12)
    monkeypatch.setattr(demo, "N_TEST_NORMAL", 3)
    monkeypatch.setattr(demo, "N_TEST_ANOMALOUS", 3)


@pytest.mark.usefixtures("small_demo")
def test_the_python_page_runs_from_top_to_bottom(capsys):
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


@pytest.mark.slow
@pytest.mark.usefixtures("small_demo")
def test_the_notebook_runs_from_top_to_bottom(capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names = {}

    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)

    printed = capsys.readouterr().out
    assert "slider id_00   AUC" in printed
    assert "false alarms from 12 clips" in printed
    assert len(names["checks"].rows) == 18
    assert names["frames"].shape == (313, 128)
    assert all(not cell.get("outputs") for cell in cells)
