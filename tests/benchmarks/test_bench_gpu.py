"""Whoever has a GPU measures it by one command; without one every step of it runs on the CPU."""

import json
import sys
import time

import pytest
import torch

from benchmarks import bench_gpu

ENCODER = "small_network:SmallNetwork"


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("gpu") / "gpu.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules["peers"].NAIVE, ENCODER, naive)
        status = bench_gpu.main(
            ["--device", "cpu,cpu", "--small", "--encoder", ENCODER, "--json", str(path)]
        )
    assert status == 0
    return json.loads(path.read_text())


def naive(paths, device):
    time.sleep(0.01 * len(paths))


def test_every_column_is_measured_in_either_precision(record):
    of_a_gpu = {"device MB"}

    rows = record["rows"]
    host, rows = rows[:2], rows[2:]
    assert all(row["clips/s"] > 0 and row["cpu ms"] > 0 for row in host)
    assert [row["name"] for row in rows] == [
        f"{ENCODER}, {precision}, torch" for precision in ("fp32", "bf16")
    ]
    for row in rows:
        for key in record["columns"].keys() - of_a_gpu:
            assert row["ratios"].get(key, row.get(key)) > 0, key
        assert row["GFLOP"] == pytest.approx(2 * 16_000 * 8 / 1e9)  # a product per sample and width


def test_the_checks_ran_and_say_what_they_found(record):
    names = [check["name"] for check in record["checks"]]

    assert all(check["passed"] and check["found"] for check in record["checks"])
    for what in ("autoencoder", "fp32: cpu as the CPU", "bf16", "TF32", "cpu,cpu as cpu", "memory"):
        assert any(what in name for name in names), what


def test_a_check_that_fails_is_the_exit_status(monkeypatch, tmp_path, capsys):
    failed = bench_gpu.gpu_checks.check("the CPU", "another result", passed=False)
    empty = {"columns": {}, "rows": [], "checks": [failed]}
    monkeypatch.setattr(bench_gpu, "measure", lambda options, folder: empty)

    assert bench_gpu.main(["--device", "cpu"]) == 1
    assert "FAILED: the CPU: another result" in capsys.readouterr().out


def test_after_its_minutes_nothing_is_begun(tmp_path):
    path = tmp_path / "gpu.json"

    bench_gpu.main(
        ["--device", "cpu", "--small", "--encoder", ENCODER, "--minutes", "0", "--json", str(path)]
    )

    rows = json.loads(path.read_text())["rows"]
    assert {row["clips/s"] for row in rows if ENCODER in row["name"]} == {"out of time"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_what_is_missing(capsys):
    assert bench_gpu.main([]) == 1

    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("not measured: torch")
