"""One command prints the table of benchmarks/systems.md, whatever becomes of a system."""

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from pipeline.systems import SYSTEMS

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "systems_on_fan.py"


@pytest.fixture
def benchmark(monkeypatch):
    """Load the script; its systems answer at once, by the seed that they are given."""
    spec = importlib.util.spec_from_file_location("systems_on_fan", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "systems_on_fan", module)
    spec.loader.exec_module(module)
    asked = []

    def run(command, **_):
        flags = dict(pairwise(command))
        asked.append((flags["--system"], flags["--normalize"]))
        if flags["--system"] == "gru-ae":
            return CompletedProcess(command, 1, "", "the first line\nerror: the loss is nan\n")
        better = 0.1 * (flags["--normalize"] == "rms")
        warning = "random weights: say nothing" if flags["--system"].startswith("ast") else ""
        runs = [
            {
                "results": [{"machine_id": "pooled", "auc": 0.5 + seed / 10 + better, "pauc": 0.5}],
                "warning": warning,
            }
            for seed in range(int(flags["--seeds"]))
        ]
        return CompletedProcess(command, 0, json.dumps({"runs": runs}), "")

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["systems_on_fan.py", *arguments])
        module.main()

    monkeypatch.setattr(module.subprocess, "run", run)
    return main, asked


def test_a_normalisation_is_a_pair_of_columns_of_the_mean_over_seeds(benchmark, capsys):
    main, _ = benchmark

    main("--seeds", "3", "--normalize", "none", "rms", "--", "fc-ae", "ast-beam")

    assert capsys.readouterr().out.splitlines() == [
        "| system | seeds | AUC `none`, mean (lowest to highest) | pAUC `none` "
        "| AUC `rms`, mean (lowest to highest) | pAUC `rms` |",
        "|---|---|---|---|---|---|",
        "| `fc-ae` | 3 | 0.600 (0.500 to 0.700) | 0.500 | 0.700 (0.600 to 0.800) | 0.500 |",
        "| `ast-beam` * | 3 | 0.600 (0.500 to 0.700) | 0.500 | 0.700 (0.600 to 0.800) | 0.500 |",
    ]


def test_every_preset_is_in_the_table_and_one_that_fails_says_why(benchmark, capsys):
    main, asked = benchmark

    with pytest.raises(SystemExit) as ended:
        main("--seeds", "1")

    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 1
    assert asked == [(name, "none") for name in SYSTEMS]
    assert len(lines) == 2 + len(SYSTEMS)
    assert "| `gru-ae` | 0 | - | exit 1: error: the loss is nan |" in lines


def test_a_system_that_is_not_there_is_a_usage_error(benchmark, capsys):
    main, asked = benchmark

    with pytest.raises(SystemExit) as ended:
        main("fc-aee")

    assert (ended.value.code, asked) == (2, [])
    assert "unknown system fc-aee" in capsys.readouterr().err
