"""The whole job as a user runs it: real recordings in, AUC per machine out."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile

from pipeline import sources

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = (
    "machine_type,machine_id,n_train,n_normal,n_anomalous,"
    "auc,auc_low,auc_high,pauc,pauc_low,pauc_high"
)


@pytest.fixture
def recordings(tmp_path, rng) -> Path:
    """Two machine IDs, twelve training and eight test clips each, half a second long."""
    root = tmp_path / "dev_data"
    for machine_id in ("id_00", "id_02"):
        for split, label, count in [
            ("train", "normal", 12),
            ("test", "normal", 4),
            ("test", "anomaly", 4),
        ]:
            for i in range(count):
                level = 1.3 if label == "anomaly" else 1.0
                path = root / "valve" / split / f"{label}_{machine_id}_{i:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, level * rng.normal(0, 0.05, 8000), 16_000)
    return root


def run_folders(*, grid: bool = False) -> list[Path]:
    return sorted(p for p in Path("runs").iterdir() if ("-grid" in p.name) == grid)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def theirs(recordings: Path) -> str:
    """Write another tool's vectors of the recordings, and name that file."""
    names = sorted(p.relative_to(recordings).as_posix() for p in recordings.rglob("*.wav"))
    with h5py.File("theirs.h5", "w") as file:
        file["embeddings"] = np.random.default_rng(1).normal(size=(len(names), 4))
        file["filenames"] = names
    return "theirs.h5"


def score_files(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.glob("anomaly_score_*.csv")}


@pytest.mark.parametrize(
    ("flags", "auc", "pauc"),
    [
        (("--encoder", "logmel"), 0.956, 0.816),
        (("--encoder", "logmel", "--normalize", "rms"), 0.975, 0.895),
        (("--pooling", "mean"), 0.875, 0.579),
        (("--pooling", "mean", "--normalize", "rms"), 0.931, 0.711),
    ],
)
def test_a_single_recipe_reaches_its_figures_on_the_real_fan(pipeline, fan, flags, auc, pauc):
    done = pipeline("--data", fan, *flags)

    assert done.code == 0
    (folder,) = run_folders()
    first = rows(folder / "results.csv")[0]
    assert float(first["auc"]) == pytest.approx(auc, abs=0.007)  # one swapped pair
    assert float(first["pauc"]) == pytest.approx(pauc, abs=0.028)
    assert first["auc"][:5] in done.out


def test_the_second_run_embeds_nothing_and_says_so(pipeline, recordings):
    first, second = pipeline(), pipeline()

    assert first.code == second.code == 0
    assert "embed with logmel, spectrum, wave: 40 clips" in first.err
    assert second.err.count("all 40 clips are in the cache, nothing to embed") == 3
    one, two = run_folders()
    assert score_files(one) == score_files(two)


def test_a_run_folder_holds_what_was_promised(pipeline, recordings):
    pipeline()

    (folder,) = run_folders()
    assert {p.name for p in folder.iterdir()} >= {
        "config.toml",
        "results.csv",
        "results.json",
        "report.html",
        "scores.png",
        "roc.png",
        "log.jsonl",
        "anomaly_score_valve_id_00.csv",
        "anomaly_score_valve_id_02.csv",
    }
    ranked = rows(folder / "ranking.csv")
    assert [row["rank"] for row in ranked] == [str(i) for i in (*range(1, 9), *range(1, 9))]
    of_first = [float(row["anomaly_score"]) for row in ranked[:8]]
    assert of_first == sorted(of_first, reverse=True)
    assert (folder / "model" / "model.json").exists()
    table = rows(folder / "results.csv")
    assert [row["machine_id"] for row in table] == ["id_00", "id_02", "mean", "hmean", "pooled"]
    assert ",".join(table[0]).startswith(f"{COLUMNS},note,promised_false_alarms,")
    lines = score_files(folder)["anomaly_score_valve_id_00.csv"].split()
    names = [line.split(",")[0] for line in lines]
    assert len(names) == 8
    assert "normal_id_00_00000000.wav" in names


def test_the_config_of_a_run_gives_the_same_run(pipeline, recordings, tmp_path):
    pipeline("--detector", "knn", "--set", "knn.k=3", "--pooling", "mean", "--normalize", "rms")
    (first,) = run_folders()

    done = pipeline("--config", first / "config.toml", "--out", tmp_path / "again")

    (second,) = (tmp_path / "again").iterdir()
    assert done.code == 0
    assert second.name.endswith("logmel-mean-knn")
    assert score_files(first) == score_files(second)


def test_a_config_holds_what_was_read_by_its_place(pipeline, recordings, tmp_path, monkeypatch):
    pipeline("--embeddings", theirs(recordings), "--data", "dev_data", "--detector", "knn")
    pipeline("--detector", "knn")
    configs = [folder.absolute() / "config.toml" for folder in run_folders()]
    before = [score_files(config.parent) for config in configs]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert [pipeline("--config", config).code for config in configs] == [0, 0]
    assert sorted(map(str, map(score_files, run_folders()))) == sorted(map(str, before))


@pytest.mark.parametrize("system_first", [True, False])
def test_a_system_that_is_given_wins_over_a_config(pipeline, recordings, system_first):
    pipeline("--detector", "knn")
    config = ["--config", run_folders()[0] / "config.toml"]
    system = ["--system", "twfr-gmm"]

    pipeline(*(system + config if system_first else config + system), "--detector", "gmm")

    assert run_folders()[-1].name.endswith("logmel-gwrp-gmm")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("settings = 3", "is not a config.toml of a run"),
        ("encoder = 'mfcc'", "is not a config.toml of a run"),
        ("[settings]\ndetecter = 'knn'", "no setting 'detecter'; did you mean 'detector'?"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(pipeline, recordings, content, message):
    Path("config.toml").write_text(content)

    done = pipeline("--config", "config.toml")

    assert done.code == 2
    assert message in done.err


def test_a_grid_costs_one_forward_pass_per_encoder_and_ends_with_a_leaderboard(
    pipeline, recordings, monkeypatch
):
    from embed.encoders.logmel import LogMel

    n_encoded = 0
    log_mel = LogMel.log_mel

    def counted(self, waveforms):
        nonlocal n_encoded
        n_encoded += len(waveforms)
        return log_mel(self, waveforms)

    monkeypatch.setattr(LogMel, "log_mel", counted)

    grid = ("--pooling", "mean,fluctuation", "--detector", "mahalanobis,knn,gmm")
    done = pipeline(*grid)

    assert done.code == 0
    assert n_encoded == 40
    (folder,) = run_folders(grid=True)
    board = rows(folder / "leaderboard.csv")
    assert len(board) == 6
    assert len([p for p in folder.iterdir() if (p / "results.json").exists()]) == 6
    assert (folder / "leaderboard.html").exists()
    best = max(board, key=lambda row: float(row["auc_mean"]))
    assert f"{float(best['auc_mean']):.3f}" in done.out.splitlines()[2]


def test_a_combination_of_a_grid_scores_as_it_does_alone(pipeline, recordings):
    pipeline("--detector", "knn,ocsvm")
    pipeline("--detector", "ocsvm")

    (grid,), (alone,) = run_folders(grid=True), run_folders()
    assert score_files(grid / "logmel-fluctuation-ocsvm") == score_files(alone)


def test_an_interrupted_grid_goes_on_with_what_is_missing(pipeline, recordings):
    pipeline("--detector", "knn,gmm")
    (folder,) = run_folders(grid=True)
    finished = folder / "logmel-fluctuation-knn" / "results.json"
    stamp = finished.stat().st_mtime_ns
    (folder / "leaderboard.csv").unlink()
    (folder / "logmel-fluctuation-gmm" / "results.json").unlink()

    done = pipeline("--detector", "knn,gmm")

    assert done.code == 0
    assert "going on with the interrupted grid" in done.err
    assert run_folders(grid=True) == [folder]
    assert finished.stat().st_mtime_ns == stamp
    assert len(rows(folder / "leaderboard.csv")) == 2


def test_pairs_that_cannot_be_are_skipped_with_their_reason_in_a_grid(pipeline, recordings):
    done = pipeline("--encoder", "logmel,mfcc", "--pooling", "fluctuation,mean")

    assert done.code == 0
    assert "needs log-mel in dB" in done.err
    (folder,) = run_folders(grid=True)
    assert len(rows(folder / "leaderboard.csv")) == 4


def test_a_pair_that_cannot_be_is_a_usage_error_alone(pipeline, recordings):
    done = pipeline("--encoder", "mfcc", "--pooling", "fluctuation")

    assert done.code == 2
    assert "needs log-mel in dB" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "logmell"], "did you mean 'logmel'?"),
        (["--detector", "mahalonobis"], "did you mean 'mahalanobis'?"),
        (["--pooling", "gwpr"], "did you mean 'gwrp'?"),
        (["--data", "nowhere"], "there is no data at 'nowhere'; give --data"),
        (["--set", "knn"], "expected NAME.option=value"),
        (["--set", "knnn.k=3"], "did you mean 'knn'?"),
        (["--set", "knn.kk=3", "--detector", "knn"], "no option 'kk'; it has k"),
        (["--set", "logmel.hop=3"], "no option 'hop'; it has"),
        (["--encoder", "panns:foo"], "unknown encoder 'panns:foo': did you mean 'panns'?"),
        (
            ["--detector", "fc_ae", "--set", "fc_ae.hidden=[]"],
            "should have at least 1 item",
        ),
        (["--set", "knn.k=x", "--detector", "knn"], "knn.k should be a valid integer; got 'x'"),
        (
            ["--sweep", "knn.k=1,0", "--detector", "knn,pca"],
            "knn.k should be greater than or equal to 1",
        ),
        (["--set", "logmel.n_mels=x"], "logmel.n_mels should be a valid integer; got 'x'"),
        (["--set", "gwrp.r=x", "--pooling", "gwrp"], "gwrp.r should be a valid number; got 'x'"),
        (["--machine", "valv"], "did you mean 'valve'?"),
        (["--ids", "id_09"], "no machine ID 'id_09'"),
        (["--channel", "left"], "'near', 'far', 'mix' or 'w1'; got 'left'"),
        (["--normalize", "loud"], "is not one of"),
        (["--seeds", "0"], "greater than or equal to 1"),
        (["--seed", "-1"], "greater than or equal to 0"),
        (["--workers", "-1"], "greater than or equal to 0"),
        (["--encoder", ""], "names none"),
        (["--detector", ","], "names none"),
        (["--sweep", "knnn.k=1,2"], "did you mean 'knn'?"),
        (["--sweep", "knn.k=1,2"], "knn is not in this run"),
        (["--sweep", "knn.k=1,2", "--detector", "pca"], "knn is not in this run"),
        (["--set", "knn.foo=1"], "no option 'foo'; it has k"),
        (["--set", "fluctuation.foo=1", "--encoder", "wave"], "no option 'foo'; it has"),
        (["--set", "auto.rule=worst"], "there is no fusion rule 'worst'; it is mean"),
        (["--set", "auto.rules=min"], "a fusion has no option 'rules'; it has rule"),
        (["--system", "auto,b"], "unknown system 'b'"),
        (["--fuse", ","], "names none"),
        (["--fuse", "logmel/mean"], "expected encoder/pooling/detector"),
        (["--false-alarms", "0"], "must be a number above 0 and below 1"),
        (["--false-alarms", "1"], "must be a number above 0 and below 1"),
        (["--false-alarms", "abc"], "must be a number above 0 and below 1"),
        (["--confidence", "1.5"], "must be above 0 and below 1"),
        (["--weights", "nowhere.pth"], "no such file or folder"),
        (["--embeddings", "nowhere.h5"], "no such file or folder"),
        (["--bogus"], "No such option: --bogus"),
        (["--config", "nowhere.toml"], "not a config.toml of a run"),
        (["--device", "cuda:99"], "--device"),
        (["--device", "mps"], "--device mps: expected cpu, cuda or cuda:<number>"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_2(pipeline, recordings, arguments, message):
    done = pipeline(*arguments)

    assert done.code == 2
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert not Path("runs").exists()


def test_flags_that_change_nothing_are_said(pipeline, recordings):
    run = pipeline("--encoder", "logmel", "--set", "knn.k=3", "--set", "encoder.n_mels=128")
    assert "unused: --set knn.k=3: knn is not in this run" in run.err
    assert "n_mels" not in run.err

    imported = theirs(recordings)
    run = pipeline("--embeddings", imported, "--data", "dev_data", "--encoder", "ast")
    assert (run.code, "unused: --encoder ast: the vectors are those of" in run.err) == (0, True)

    run = pipeline("--embeddings", imported, "--data", "dev_data", "--normalize", "rms", "--trim")
    assert "unused: --normalize rms: the vectors are those of --embeddings" in run.err
    assert "unused: --trim: " in run.err

    run = pipeline("--embeddings", imported, "--data", "dev_data", "--set", "knn.k=3", "--quiet")
    assert run.err == ""


def test_a_preset_judges_other_tools_vectors_without_its_encoder(pipeline, recordings):
    how = ("--set", "mlp.epochs=2")
    run = pipeline(
        "--embeddings", theirs(recordings), "--data", "dev_data", *how, "--system", "ast-mlp"
    )

    assert run.code == 0
    assert "theirs-clip-mlp" in run.out
    assert "unused" not in run.err


def test_a_combinations_config_holds_the_options_of_its_own_parts(pipeline, recordings):
    pipeline("--detector", "knn,pca", "--set", "knn.k=3", "--set", "logmel.n_mels=64")

    (grid,) = run_folders(grid=True)
    config = grid / "logmel-fluctuation-pca" / "config.toml"
    assert tomllib.loads(config.read_text())["settings"]["set"] == ["logmel.n_mels=64"]


def test_lists_are_swept_too(pipeline, recordings):
    how = ("--detector", "fc_ae", "--set", "fc_ae.epochs=2", "--ids", "id_00")
    done = pipeline(*how, "--sweep", "fc_ae.hidden=[8],[16,8]")

    assert done.code == 0
    (grid,) = run_folders(grid=True)
    assert {row["hidden"] for row in rows(grid / "leaderboard.csv")} == {"(8,)", "(16, 8)"}


def test_without_data_the_error_names_the_ways(pipeline):
    done = pipeline()

    assert done.code == 2
    assert "--data demo" in done.err
    assert "./dev_data" in done.err


def test_json_is_all_that_is_printed(pipeline, recordings):
    done = pipeline("--json", "--quiet")

    assert done.err == ""
    (run,) = json.loads(done.out)["runs"]
    assert [row["machine_id"] for row in run["results"]][:2] == ["id_00", "id_02"]


def test_the_list_names_every_choice(pipeline):
    done = pipeline("--list", "--json")

    listed = json.loads(done.out)
    assert {"encoders", "poolings", "detectors"} <= set(listed)
    assert all(set(entry) == {"name", "about"} for kind in listed.values() for entry in kind)
    assert "logmel" in [entry["name"] for entry in listed["encoders"]]


def test_embed_fills_the_cache_and_the_job_finds_it(pipeline, recordings):
    done = pipeline("embed", "--pooling", "mean,fluctuation")
    assert done.code == 0
    assert done.err.count("40 vectors in") == 2
    assert "nothing to embed" in pipeline("--encoder", "logmel").err

    assert pipeline("embed").code == 0
    assert "embed with" not in pipeline().err


def test_a_renamed_data_root_is_known_by_its_content_and_ends_in_one_file(pipeline, recordings):
    pipeline()
    recordings.rename("renamed")

    assert "nothing to embed" in pipeline("--data", "renamed").err
    with h5py.File(next(Path("embeddings").glob("renamed-*.h5"))) as file:
        assert len(file["filenames"]) == 40
    assert not list(Path("embeddings").glob("*.parts"))


@pytest.mark.parametrize("fit_per", ["id", "type"])
def test_labels_of_test_clips_and_other_test_clips_move_no_score(
    pipeline, recordings, tmp_path, fit_per
):
    """Renaming every normal test clip to anomaly and back again, or removing half of them."""
    flags = ("--detector", "mahalanobis", "--fit-per", fit_per, "--quiet")
    pipeline("--data", recordings, *flags, "--out", "a")
    swapped = tmp_path / "swapped" / "valve"
    (swapped / "test").mkdir(parents=True)
    (swapped / "train").symlink_to(recordings / "valve" / "train")
    other = {"normal": "anomaly", "anomaly": "normal"}
    kept = sorted((recordings / "valve" / "test").iterdir())[::2]
    for clip in kept:
        label, rest = clip.name.split("_", 1)
        (swapped / "test" / f"{other[label]}_{rest}").write_bytes(clip.read_bytes())
    pipeline("--data", tmp_path / "swapped", *flags, "--out", "b")

    def scores(out: str) -> dict[str, float]:
        (folder,) = Path(out).iterdir()
        lines = "".join(score_files(folder).values()).split()
        return {name: float(score) for name, score in (line.split(",") for line in lines)}

    before, after = scores("a"), scores("b")
    assert len(after) == 8
    for name, score in after.items():
        label, rest = name.split("_", 1)
        np.testing.assert_allclose(score, before[f"{other[label]}_{rest}"], rtol=1e-5)


def test_ctrl_c_leaves_a_state_to_go_on_from(recordings, tmp_path):
    slow = (
        "import sys, time, embed.embedding as e, run_pipeline as r\n"
        "load = e.load_for\n"
        "def slowly(*x):\n    time.sleep(0.2)\n    return load(*x)\n"
        "e.load_for = slowly\n"
        "e.SECONDS_PER_WRITE = 0.2\n"
        "sys.argv = ['run_pipeline.py', '--encoder', 'logmel', '--workers', '1']\n"
        "sys.exit(r.main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", slow],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    parts = tmp_path / "embeddings"
    deadline = time.monotonic() + 60
    while not list(parts.glob("*.parts/part-*")) and time.monotonic() < deadline:
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "stopping after this batch; Ctrl-C again stops now" in err
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    again = subprocess.run(
        [sys.executable, str(ROOT / "run_pipeline.py"), "--encoder", "logmel"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    embedded = int(again.stderr.split("embed with logmel: ")[1].split()[0])
    assert 0 < embedded < 40


@pytest.mark.slow
def test_random_weights_are_said_wherever_a_figure_is_shown(pipeline, recordings):
    done = pipeline("--encoder", "panns", "--weights", "random")

    (folder,) = run_folders()
    assert done.code == 0
    warning = "random weights"
    assert warning in done.out
    assert warning in done.err
    assert warning in json.loads((folder / "results.json").read_text())["warning"]
    assert warning in (folder / "report.html").read_text()
    (store,) = Path("embeddings").glob("*.h5")
    with h5py.File(store) as file:
        assert warning in file.attrs["warning"]


def test_a_run_that_cannot_fit_on_the_disk_stops_before_it_keeps_anything(
    pipeline, recordings, monkeypatch
):
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 100))

    done = pipeline()

    assert done.code == 1
    assert "free some space, or use another --cache-dir" in done.err
    assert not list(Path("embeddings").glob("**/part-*"))


def test_detectors_that_tell_ids_apart_pool_the_scores_of_one_model(pipeline, recordings):
    done = pipeline("--detector", "id_logistic")

    assert done.code == 0
    assert "valve pooled" in done.out
    assert "separate models" not in done.out


def test_detectors_that_tell_ids_apart_end_a_run_of_one_id(pipeline, recordings):
    done = pipeline("--detector", "id_logistic", "--ids", "id_00")

    assert done.code == 1
    assert "needs two or more of a type" in done.err
    assert done.err.count("id_logistic on valve") == 1


def test_a_sweep_runs_each_value_with_each_and_says_what_its_thresholds_decide(
    pipeline, recordings
):
    done = pipeline(
        *("--detector", "ocsvm", "--sweep", "ocsvm.nu=.05,.1", "--sweep", "ocsvm.gamma=scale,.001")
    )

    assert done.code == 0
    assert "oracle" in done.out
    (grid,) = run_folders(grid=True)
    found = {(row["nu"], row["gamma"]) for row in rows(grid / "leaderboard.csv")}
    assert found == {("0.05", "scale"), ("0.05", "0.001"), ("0.1", "scale"), ("0.1", "0.001")}
    for row in rows(grid / "leaderboard.csv"):
        for name in ("accuracy", "precision", "recall", "f1"):
            for threshold in ("0", "0.2"):
                assert 0 <= float(row[f"{name}_at_{threshold}"]) <= 1


def test_seeds_end_in_a_file_of_their_means_and_spreads_beside_the_rows_of_each(
    pipeline, recordings
):
    few_trees = ("--set", "iforest.n_estimators=1", "--set", "iforest.max_samples=3")
    done = pipeline("--detector", "knn,iforest", "--pooling", "mean", "--seeds", "3", *few_trees)

    assert done.code == 0
    (grid,) = run_folders(grid=True)
    each = rows(grid / "leaderboard.csv")
    merged = {row["detector"]: row for row in rows(grid / "leaderboard_over_seeds.csv")}
    assert [(row["detector"], row["seed"]) for row in each] == [
        ("knn", ""), ("iforest", "0"), ("iforest", "1"), ("iforest", "2"),
    ]  # fmt: skip
    assert {(row["detector"], row["seeds"]) for row in merged.values()} == {
        ("knn", "1"), ("iforest", "3"),
    }  # fmt: skip
    for name, row in merged.items():
        aucs = [float(one["auc_mean"]) for one in each if one["detector"] == name]
        assert float(row["auc_mean"]) == pytest.approx(np.mean(aucs), abs=1e-6)
    assert float(merged["iforest"]["auc_spread"]) == pytest.approx(np.std(aucs, ddof=1), abs=1e-6)
    assert merged["knn"]["auc_spread"] == ""


@pytest.mark.slow
def test_random_weights_inside_a_detector_are_said_too(pipeline, recordings):
    done = pipeline(
        *("--detector", "resnet50_cnn", "--ids", "id_00"),
        *("--weights", "random", "--set", "resnet50_cnn.epochs=1"),
    )

    assert done.code == 0
    assert "random weights" in done.out
    assert "random weights" in done.err
    (folder,) = run_folders()
    assert "random weights" in (folder / "report.html").read_text()
    assert "random weights" in json.loads((folder / "results.json").read_text())["warning"]


def test_a_detectors_missing_weights_are_told_before_anything_is_embedded(
    pipeline, recordings, monkeypatch, tmp_path
):
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))

    alone = pipeline("--system", "resnet50-cnn", "--offline")
    assert (alone.code, alone.err.startswith("error: model.safetensors is not on this")) == (
        1,
        True,
    )
    assert not Path("embeddings").exists()

    grid = pipeline("--detector", "resnet50_cnn,knn", "--pooling", "frames,mean", "--offline")
    assert grid.code == 1
    assert "failed: resnet50_cnn: model.safetensors is not on this machine" in grid.err
    board = rows(run_folders(grid=True)[0] / "leaderboard.csv")
    assert {row["detector"] for row in board if row["auc_mean"]} == {"knn"}


def test_a_models_folder_goes_by_its_own_name_in_file_names(tmp_path):
    folder = tmp_path / "deep" / "my-wavlm"
    folder.mkdir(parents=True)

    assert sources.encoder_in_file_names(f"hf:{folder}") == "hf+my-wavlm"
    assert sources.encoder_in_file_names("hf:facebook/hubert") == "hf+facebook+hubert"
    assert sources.encoder_in_file_names("panns") == "panns"
