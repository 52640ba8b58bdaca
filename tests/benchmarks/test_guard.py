"""Recorded figures are what the page shows, and a ratio that falls is named."""

import copy

import pytest

from benchmarks import guard, records, tables

RECORDED = records.read_all()
HERE = {"cpu": "Some CPU", "flags": ["avx2"], "cores": 2, "system": "Linux"}


def record(cpu: str = "Some CPU", **ratios: float) -> records.Record:
    rows = [{"name": name, "ratios": {"cpu": ratio}} for name, ratio in ratios.items()]
    columns = {"cpu": "over the peer"}
    return {
        **records.make_record("detectors", columns, rows),
        "machine": {**HERE, "cpu": cpu},
        "date": "2026-01-01",
    }


@pytest.fixture
def on_some_cpu(monkeypatch):
    monkeypatch.setattr(guard, "machine", lambda: HERE)


def run(tmp_path, before: records.Record, now: records.Record) -> int:
    records.save(before, tmp_path / "before")
    records.save(now, tmp_path / "now")
    return guard.main(["--records", str(tmp_path / "before"), "--measured", str(tmp_path / "now")])


@pytest.mark.parametrize("one", RECORDED, ids=lambda r: f"{r['benchmark']}-{r['date']}")
def test_a_record_has_its_machine_its_command_and_rows_of_its_columns(one):
    assert one["machine"].keys() >= HERE.keys()
    assert one["command"].startswith("python benchmarks/bench_")
    assert len({row["name"] for row in one["rows"]}) == len(one["rows"]) > 0
    for row in one["rows"]:
        assert (row.keys() | row.get("ratios", {}).keys()) & one["columns"].keys(), row["name"]


def test_the_tables_of_the_page_are_those_of_the_records():
    page = tables.README.read_text(encoding="utf-8")

    assert tables.rendered(page, RECORDED) == page
    for one in RECORDED:
        assert records.table(one) in page


def test_a_changed_figure_changes_the_page():
    page = tables.README.read_text(encoding="utf-8")
    changed = copy.deepcopy(RECORDED)
    next(r for r in changed if r["benchmark"] == "encoders")["rows"][0]["ratios"]["cpu"] = 98.7

    assert "| 98.7 |" in tables.rendered(page, changed)


def test_a_mark_without_a_record_is_an_error():
    with pytest.raises(ValueError, match="no record of sizes"):
        tables.rendered("<!-- records of sizes -->\n<!-- end of records -->\n", RECORDED)


def test_a_ratio_below_80_percent_fails_by_its_name(tmp_path, on_some_cpu, capsys):
    status = run(tmp_path, record(kNN=2.0, SVM=3.0, GMM=6.0), record(kNN=1.61, SVM=2.39))

    out = capsys.readouterr().out
    assert status == 1
    assert "SLOWER detectors: SVM: 2.39 times the peer, 3.00 on 2026-01-01, at least 2.40" in out
    assert "not measured here: detectors: GMM" in out
    assert "SLOWER detectors: kNN" not in out


def test_ratios_that_stay_pass(tmp_path, on_some_cpu, capsys):
    assert run(tmp_path, record(kNN=2.0), record(kNN=1.7)) == 0
    assert "0 of 1 ratios are below 80% of what was recorded" in capsys.readouterr().out


def test_another_cpu_is_said_and_does_not_fail(tmp_path, on_some_cpu, capsys):
    assert run(tmp_path, record("Another CPU", kNN=9.0), record(kNN=1.0)) == 0
    assert "nothing was recorded on a CPU like this (Some CPU, avx2)" in capsys.readouterr().out


def test_the_newest_record_of_a_like_cpu_counts():
    old, new = record(kNN=9.0), {**record(kNN=2.0), "date": "2026-02-02"}
    unlike = {**record("Another CPU", kNN=5.0), "date": "2026-03-03"}
    in_order = sorted((old, new, unlike), key=lambda r: r["date"], reverse=True)

    assert guard.newest_like(in_order, HERE) == {"detectors": new}


def test_what_was_recorded_is_measured_again():
    encoders = {**record(), "benchmark": "encoders"}
    names = ("ast, fp32, torch", "ast, bf16, openvino", "panns, fp32, torch")
    encoders["rows"] = [{"name": name, "ratios": {"cpu": 2.0}} for name in names]

    words = guard.command(encoders)

    assert words[-5:] == ["--encoder", "ast,panns", "--backend", "torch,openvino", "--bf16"]
    assert guard.command(record(kNN=2.0)) == guard.COMMANDS["detectors"]


def test_this_machine_and_its_versions_are_told():
    made = records.make_record("detectors", {}, [])

    assert made["machine"]["cpu"]
    assert made["versions"].keys() >= {"python", "torch", "numpy"}
    assert records.is_like(made["machine"], records.machine())
