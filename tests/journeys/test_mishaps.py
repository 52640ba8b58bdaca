"""What people really point it at: every mishap happens, costs what it must, and says so."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

import run_pipeline
from detect import DETECTORS
from detect import Row as DetectorRow
from embed import ENCODERS
from embed.recordings.dataset import DataSet
from ground.registry import Row as EncoderRow
from pipeline.run_folder import RunFolder
from report import figures, page, result_files

RATE = 16_000
ROOT = Path(__file__).resolve().parents[2]


def hum(seed: int, *, anomalous: bool = False, seconds: float = 0.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    sound = 0.1 * np.sin(2 * np.pi * (200 + 20 * rng.random()) * t) + 0.03 * rng.normal(size=len(t))
    if anomalous:
        sound += rng.uniform(0.0, 0.04) * np.sin(2 * np.pi * 3_000 * t)
    return sound.astype(np.float32)


def record(root: Path, keys: Iterable[str]) -> Path:
    """Write a clip for each key; an `anomaly` in the file name is to be heard."""
    for i, key in enumerate(sorted(keys)):
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, hum(i, anomalous="anomaly" in path.name), RATE, "PCM_16")
    return root


def machine(kind: str, id_: str = "id_00", *, n_train: int = 8, n_test: int = 4) -> list[str]:
    return [
        *(f"{kind}/train/normal_{id_}_{i:08}.wav" for i in range(n_train)),
        *(f"{kind}/test/{label}_{id_}_{i:08}.wav" for label in ("normal", "anomaly")
          for i in range(n_test)),
    ]  # fmt: skip


@pytest.fixture
def with_figures() -> None:
    """Let a test's runs draw their figures."""


@pytest.fixture(autouse=True)
def no_figures(request, monkeypatch) -> None:
    """Draw nothing unless asked to: a run on so few clips spends most of its time drawing."""
    if "with_figures" not in request.fixturenames:
        for name in ("draw_scores", "draw_roc"):
            monkeypatch.setattr(figures, name, lambda *_: False)


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    return record(tmp_path_factory.mktemp("recorded"), machine("fan"))


@pytest.fixture
def data(recorded, tmp_path) -> Path:
    return shutil.copytree(recorded, tmp_path / "data")


FAN = ("fan", "id_00")
GOOD = "fan/train/normal_id_00_00000007.wav"


def truncated(path: Path) -> None:
    os.truncate(path, 3_000)


def header_only(path: Path) -> None:
    os.truncate(path, 44)


def with_nan(path: Path) -> None:
    samples = hum(0)
    samples[1_000] = np.nan
    soundfile.write(path, samples, RATE, "FLOAT")


def scaled_as_int16(path: Path) -> None:
    soundfile.write(path, hum(0) * 32_768, RATE, "FLOAT")


def text(path: Path) -> None:
    path.write_text("the recording of last Monday is on the other drive")


def too_short(path: Path) -> None:
    soundfile.write(path, hum(0, seconds=0.05), RATE)


def three_hours(path: Path) -> None:
    with path.open("r+b") as file:
        n_bytes = 3 * 3600 * RATE * 2
        file.seek(40)
        file.write(n_bytes.to_bytes(4, "little"))
        file.truncate(44 + n_bytes)  # sparse


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (truncated, "truncated"),
        (header_only, "no samples"),
        (with_nan, "NaN"),
        (scaled_as_int16, "32768"),
        (text, "not a readable recording"),
        (too_short, "0.050 s long"),
        (three_hours, "3.0 h long"),
        (empty, "empty"),
    ],
)
def test_a_bad_clip_costs_that_clip_until_it_is_mended(spoil, reason, data, pipeline):
    bad, good = data / GOOD, (data / GOOD).read_bytes()
    spoil(bad)

    command = ("--data", data, "--encoder", "logmel")

    first = pipeline(*command)
    assert first.code == 3
    assert list(first.errors()) == [GOOD]
    assert reason in first.errors()[GOOD]
    assert GOOD in first.text
    assert reason in first.text
    assert first.results()[FAN]["n_train"] == "7"
    assert len(first.scores("anomaly_score_fan_id_00.csv")) == 8

    again = pipeline(*command)
    assert again.code == 3
    assert list(again.errors()) == [GOOD]
    assert again.results() == first.results()

    bad.write_bytes(good)
    mended = pipeline(*command)
    assert mended.code == 0
    assert mended.results()[FAN]["n_train"] == "8"
    assert not (mended.folder / "errors.jsonl").exists()
    assert "embed with logmel: 1 clip " in mended.err


def test_a_short_clip_is_used_when_asked_and_that_is_recorded(data, pipeline):
    too_short(data / GOOD)
    ran = pipeline("--data", data, "--short", "repeat")

    assert ran.code == 0
    assert ran.results()[FAN]["n_train"] == "8"
    log = (ran.folder / "log.jsonl").read_text(encoding="utf-8")
    assert "repeated from 0.050 s" in log
    assert GOOD in log


@pytest.mark.usefixtures("with_figures")
def test_silence_and_a_constant_are_scored(data, pipeline):
    soundfile.write(data / "fan/test/normal_id_00_00000000.wav", np.zeros(8_000), RATE)
    soundfile.write(data / "fan/test/normal_id_00_00000001.wav", np.full(8_000, 0.5), RATE)
    ran = pipeline("--data", data, "--normalize", "rms")

    assert ran.code == 0
    scores = ran.scores("anomaly_score_fan_id_00.csv")
    assert np.isfinite(list(scores.values())).all()


def test_a_streamed_wav_is_used(data, pipeline):
    with (data / GOOD).open("r+b") as file:
        file.seek(40)
        file.write(b"\xff\xff\xff\xff")

    assert pipeline("--data", data).code == 0


def test_what_only_looks_like_a_recording_is_left_out(data, pipeline):
    (data / "fan/test/normal_id_00_00000009.wav").mkdir()
    (data / "fan/test/loop").symlink_to(data)
    (data / "fan/test/minutes of the meeting.wav").write_bytes(b"RIFF")
    ran = pipeline("--data", data)

    assert ran.code == 3
    assert {key: reason.split(",")[0] for key, reason in ran.errors().items()} == {
        "fan/test/loop": "a link to '.'",
        "fan/test/minutes of the meeting.wav": "its path is of no known layout; dcase2020 reads "
        "<machine_type>/<train|test>/[<normal|anomaly>_]id_<NN>_<number>.wav",
        "fan/test/normal_id_00_00000009.wav": "a folder",
    }
    assert ran.results()[FAN]["n_normal"] == "4"


@pytest.mark.usefixtures("with_figures")
def test_names_with_spaces_accents_and_newlines_go_all_the_way(tmp_path, pipeline):
    kind = "Lüfter 扇\nno 1"
    record(tmp_path / "mes données", machine(kind))
    ran = pipeline("--data", tmp_path / "mes données")

    assert ran.code == 0
    assert (kind, "id_00") in ran.results()
    (score_file,) = ran.folder.glob("anomaly_score_*")
    assert len(ran.scores(score_file.name)) == 8


@pytest.mark.usefixtures("with_figures")
def test_names_that_could_be_markup_are_names(tmp_path, pipeline):
    kind = r"[red]<b>fan $\nowhere$ %s {0}"
    record(tmp_path / "data", [key.replace("fan", kind, 1) for key in machine("fan")])
    (tmp_path / "data" / "[bold]stray.wav").write_bytes(b"")
    ran = pipeline("--data", tmp_path / "data")

    assert ran.code == 3
    assert list(ran.errors()) == ["[bold]stray.wav"]
    assert (kind, "id_00") in ran.results()
    assert f"{kind} id_00" in ran.out
    assert f"{kind}, auto" in ran.out
    assert "[bold]stray.wav" in ran.err
    assert "<b>fan" not in (ran.folder / "report.html").read_text(encoding="utf-8")


def test_names_that_could_be_markup_are_names_in_a_grid(tmp_path, pipeline):
    kind = "[red]fan[bold]"
    record(tmp_path / "[bold]", [key.replace("fan", kind, 1) for key in machine("fan")])
    ran = pipeline("--data", tmp_path / "[bold]", "--encoder", "logmel", "--detector", "knn,pca")

    assert ran.code == 0
    assert "[bold], by AUC" in ran.out
    assert (ran.folder / "leaderboard.csv").exists()


def test_a_manifest_with_a_field_of_megabytes_is_one_line(data, pipeline):
    (data / "clips.csv").write_text("path,machine_type,machine_id,split,label\n" + "x" * 200_000)
    ran = pipeline("--data", data / "clips.csv")

    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert len(ran.err) < 1_000


@pytest.mark.usefixtures("with_figures")
def test_a_manifest_may_call_its_machines_anything(recorded, tmp_path, pipeline):
    data = shutil.copytree(recorded, tmp_path / "data")
    rows = ["path,machine_type,machine_id,split,label"]
    for key in machine("fan"):
        label = "anomalous" if "anomaly" in key else "normal"
        rows.append(f"{key},../[/red]press,a/b [c],{key.split('/')[1]},{label}")
    (data / "clips.csv").write_text("\n".join(rows))
    ran = pipeline("--data", data / "clips.csv")

    assert ran.code == 0
    assert ("../[/red]press", "a/b [c]") in ran.results()
    assert "../[/red]press" in ran.out
    (scores,) = ran.folder.glob("anomaly_score_*.csv")
    assert len(ran.scores(scores.name)) == 8


def test_a_channel_that_no_clip_has_is_said(data, pipeline):
    ran = pipeline("--data", data, "--channel", 3)

    assert ran.code == 1
    assert "has 1 channel(s), counted from 0; there is no 3" in ran.text
    assert "Traceback" not in ran.text


def test_a_file_that_changes_while_it_is_read_is_left_out(data, pipeline, monkeypatch):
    class Growing(type(Path())):  # type: ignore[misc]
        def stat(self, **options: object) -> os.stat_result:
            with open(self, "ab") as another:  # noqa: PTH123 - a Path would come back here
                another.write(b"more")
            return super().stat(**options)

    path = DataSet.path
    monkeypatch.setattr(
        DataSet, "path", lambda self, key: (Growing if key == GOOD else Path)(path(self, key))
    )
    ran = pipeline("--data", data)

    assert ran.code == 3
    assert ran.errors() == {GOOD: "changed while it was read; run again once it is finished"}


@pytest.fixture(scope="session")
def everything_imported(recorded, tmp_path_factory) -> None:
    """Run once, as whoever is bound by permissions may not even read Python's own files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("once"))
        patch.setattr(sys, "argv", ["run_pipeline.py", "--data", str(recorded), "--quiet"])
        run_pipeline.main()


@pytest.fixture
def bound(everything_imported, tmp_path) -> Iterator[Callable[[], None]]:
    """Become, when called, a user whom permissions bind (root is bound by none)."""
    as_root = os.geteuid() == 0
    parents = [folder for folder in tmp_path.parents if folder.owner() == "root" and as_root]
    modes = {folder: folder.stat().st_mode for folder in parents}

    def become() -> None:
        if as_root:
            for folder in parents:
                folder.chmod(0o755)
            for path in (tmp_path, *tmp_path.rglob("*")):
                os.chown(path, 65534, 65534)
            os.seteuid(65534)

    yield become
    if as_root:
        os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)


def test_a_file_without_permission_is_left_out(data, pipeline, bound):
    (data / GOOD).chmod(0)
    bound()
    ran = pipeline("--data", data)

    assert ran.code == 3
    assert ran.errors() == {GOOD: "cannot be read: Permission denied"}


def test_a_cache_folder_that_is_read_only_is_named(data, pipeline, bound):
    Path("embeddings").mkdir()
    Path("embeddings").chmod(0o555)
    bound()
    ran = pipeline("--data", data)

    assert ran.code == 1
    assert "embeddings" in ran.text
    assert "--cache-dir" in ran.text


def test_a_cache_that_is_read_only_but_complete_is_used(data, pipeline, bound):
    first = pipeline("--data", data)
    stores = list(Path("embeddings").glob("*.h5"))
    bound()
    for path in (*stores, Path("embeddings")):
        path.chmod(0o555)
    again = pipeline("--data", data)

    assert len(stores) == 4
    assert (first.code, again.code) == (0, 0), again.err
    assert again.results() == first.results()


def test_a_results_folder_that_is_read_only_is_named(data, pipeline, bound):
    Path("runs").mkdir(mode=0o555)
    bound()
    ran = pipeline("--data", data)

    assert ran.code == 1
    assert "runs" in ran.text
    assert "ermission denied" in ran.text


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """Mount a file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        subprocess.run(mounting, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_loses_nothing_good(data, small_disk, pipeline):
    how = ("--data", data, "--encoder", "logmel", "--cache-dir", small_disk)
    half = pipeline(*how, "--ids", "00")
    assert half.code == 0
    (store,) = small_disk.glob("*.h5")
    before = store.read_bytes()

    record(data, machine("fan", "id_02", n_train=60))
    (small_disk / "filler").write_bytes(b"")
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            pass
    full = pipeline(*how)
    assert full.code == 1
    assert "--cache-dir" in full.text
    assert store.read_bytes() == before

    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert pipeline(*how).code == 0


def test_a_full_disk_under_the_results_is_named(data, small_disk, pipeline):
    with (small_disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            pass
    ran = pipeline("--data", data, "--encoder", "logmel", "--out", small_disk)

    assert ran.code == 1
    assert "the disk is full; free some space" in ran.err
    assert str(small_disk) in ran.err


def test_a_clock_set_back_neither_hides_a_change_nor_mixes_runs(data, pipeline, monkeypatch):
    first = pipeline("--data", data)
    soundfile.write(data / GOOD, hum(99), RATE, "PCM_16")
    os.utime(data / GOOD, (0, 0))
    for store in Path("embeddings").glob("*.h5"):
        os.utime(store, (4e9, 4e9))
    monkeypatch.setattr(time, "time", lambda: 1e9)
    monkeypatch.setattr(time, "strftime", lambda *_: "2001-09-09T01-46-40")
    second = pipeline("--data", data)
    n_folders = len(list(Path("runs").iterdir()))
    third = pipeline("--data", data)

    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert n_folders == 2
    assert len(list(Path("runs").iterdir())) == 3
    name = "anomaly_score_fan_id_00.csv"
    before, *after = [(run / name).read_bytes() for run in sorted(Path("runs").iterdir())][::-1]
    assert before not in after
    assert after[0] == after[1]


def test_data_that_is_not_there_is_a_usage_error_that_names_the_ways(pipeline):
    for arguments in (["--data", "nowhere"], []):
        ran = pipeline(*arguments)

        assert ran.code == 2
        assert "demo" in ran.text
        assert not Path("runs").exists()


def test_an_empty_folder_names_the_layouts(tmp_path, pipeline):
    (tmp_path / "empty").mkdir()
    ran = pipeline("--data", "empty")

    assert ran.code == 1
    assert "no recordings" in ran.text
    assert "<machine_type>/id_<NN>/<normal|abnormal>" in ran.text


@pytest.mark.parametrize(
    ("option", "name", "near"), [("--machine", "fann", "fan"), ("--ids", "id_01", "id_00")]
)
def test_a_machine_that_is_not_there_is_a_usage_error(option, name, near, data, pipeline):
    ran = pipeline("--data", data, option, name)

    assert ran.code == 2
    assert f"did you mean '{near}'" in ran.text


def test_a_machine_without_training_clips_is_named_and_the_others_are_judged(data, pipeline):
    record(data, ["fan/test/normal_id_02_00000000.wav"])
    ran = pipeline("--data", data)

    assert ran.code == 1
    assert "fan id_02: it has test clips but no normal training clips" in ran.text
    assert ran.results()[FAN]["auc"] != ""
    assert ("fan", "id_02") not in ran.results()


def test_a_machine_whose_only_training_clip_is_bad_does_not_cost_the_others(data, pipeline):
    record(data, machine("pump", n_train=1))
    truncated(data / "pump/train/normal_id_00_00000000.wav")
    ran = pipeline("--data", data)

    assert ran.code == 1
    assert "pump id_00" in ran.text
    assert ran.results()[FAN]["auc"] != ""


def test_nothing_but_bad_test_clips_is_a_failure_that_says_so(data, pipeline):
    for path in (data / "fan/test").iterdir():
        text(path)
    ran = pipeline("--data", data)

    assert ran.code == 1
    assert "no test clip is left to judge" in ran.text
    assert len(ran.errors()) == 8


@pytest.mark.parametrize("fit_per", ["id", "type"])
def test_an_id_without_training_clips_is_refused_whatever_is_fitted(fit_per, data, pipeline):
    record(data, ["fan/test/normal_id_02_00000000.wav"])
    ran = pipeline("--data", data, "--fit-per", fit_per)

    assert ran.code == 1
    assert "fan id_02" in ran.text
    assert ran.results()[FAN]["auc"] != ""


def test_test_clips_alone_are_an_error_before_anything_is_embedded(tmp_path, pipeline):
    ran = pipeline("--data", record(tmp_path / "data", machine("fan", n_train=0)))

    assert ran.code == 1
    assert "fan id_00: it has test clips but no normal training clips" in ran.text
    assert not Path("embeddings").exists()
    assert not Path("runs").exists()


def test_no_test_clip_but_files_that_were_left_out_are_told_together(tmp_path, pipeline):
    keys = [*machine("fan", n_test=0), "fan/test/unit_3.wav"]
    ran = pipeline("--data", record(tmp_path / "data", keys))

    assert ran.code == 1
    assert "no test clip to judge; 'fan/test/unit_3.wav' is left out" in ran.text


def test_two_lines_for_one_file_are_an_error(data, pipeline):
    manifest = data / "clips.csv"
    row = f"{GOOD},fan,1,train,normal"
    manifest.write_text(f"path,machine_type,machine_id,split,label\n{row}\n./{row}\n")
    ran = pipeline("--data", manifest)

    assert ran.code == 1
    assert "lines 2 and 3 name the same clip" in ran.text


@pytest.mark.parametrize(
    ("key", "lack"),
    [
        ("fan/train/normal_id_00_00000000.wav", "has no test clip to judge"),
        ("fan/test/normal_id_00_00000000.wav", "no normal training clips"),
    ],
)
def test_a_data_set_of_one_clip_is_told_what_it_lacks(key, lack, tmp_path, pipeline):
    ran = pipeline("--data", record(tmp_path / "one", [key]))

    assert ran.code == 1
    assert lack in ran.text
    assert pipeline("embed", "--data", tmp_path / "one").code == 0


def test_one_training_clip_is_enough_for_a_neighbour_and_not_for_a_covariance(tmp_path, pipeline):
    keys = [*machine("fan", n_train=1, n_test=0), "fan/test/id_00_00000000.wav"]
    record(tmp_path / "two", keys)
    neighbour = pipeline("--data", "two", "--detector", "knn")
    covariance = pipeline("--data", "two", "--detector", "mahalanobis")

    assert neighbour.code == 0
    assert len(neighbour.scores("anomaly_score_fan_id_00.csv")) == 1
    assert covariance.code == 1
    assert "mahalanobis on fan id_00" in covariance.text
    assert "a minimum of 2 is required" in covariance.text


class Fails:
    """A detector that cannot be fitted."""

    def fit(self, X: np.ndarray, y: object = None) -> "Fails":
        raise ValueError("the moon is in the wrong phase")

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def test_a_grid_with_one_failing_detector_finishes_the_others(data, pipeline, monkeypatch):
    for n_bands in (8, 9):
        row = EncoderRow("embed.encoders.logmel:LogMel", "log-mel", {"n_mels": 4 * n_bands})
        monkeypatch.setitem(ENCODERS, f"mel{4 * n_bands}", row)
    monkeypatch.setitem(DETECTORS, "fails", DetectorRow(f"{__name__}:Fails", "fails"))
    encoders = ["logmel", *(name for name in ENCODERS if name.startswith("mel"))]
    detectors = ["mahalanobis", "knn", "gmm", "mlp", "fails"]
    ran = pipeline(
        *("--data", data, "--pooling", "mean", "--set", "mlp.epochs=2"),
        *("--encoder", ",".join(encoders), "--detector", ",".join(detectors), "--workers", 1),
    )

    with (ran.folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(encoders) == 3
    assert len(rows) == 15
    failed = [row for row in rows if "wrong phase" in " ".join(row.values())]
    assert len(failed) == 3
    assert "the moon is in the wrong phase" in ran.text
    assert ran.code == 1


def by_detector(grid: Path) -> dict[str, dict[str, str]]:
    with (grid / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return {row["detector"]: row for row in csv.DictReader(file)}


def test_a_page_that_cannot_be_written_costs_the_page_and_nothing_else(data, pipeline, monkeypatch):
    def write_report(folder, run):
        if "knn" in run.title:
            raise RuntimeError("the pen is empty")
        return really(folder, run)

    really = page.write_report
    monkeypatch.setattr(page, "write_report", write_report)
    ran = pipeline("--data", data, "--detector", "knn,pca", "--pooling", "mean")

    assert ran.code == 0
    assert "there is no report.html: the pen is empty" in ran.text
    assert not any(row.get("error") for row in by_detector(ran.folder).values())
    finished = {path.parent.name for path in ran.folder.glob("*/results.json")}
    assert finished == {"logmel-mean-knn", "logmel-mean-pca"}
    assert "logmel-mean-knn/report.html" not in (ran.folder / "leaderboard.html").read_text()


def test_a_file_that_cannot_be_written_costs_one_combination_its_files_and_nobody_else(
    data, pipeline, monkeypatch
):
    def write_ranking(folder, *more):
        if "knn" in folder.name:
            raise RuntimeError("the pen is empty")
        return really(folder, *more)

    really = result_files.write_ranking
    monkeypatch.setattr(result_files, "write_ranking", write_ranking)
    ran = pipeline("--data", data, "--detector", "mahalanobis,knn,pca", "--pooling", "mean")

    rows = by_detector(ran.folder)
    assert ran.code == 1
    assert "the pen is empty" in rows["knn"]["error"]
    assert [rows[name]["error"] for name in ("mahalanobis", "pca")] == ["", ""]
    assert all(float(row["auc_mean"]) > 0 for row in rows.values())
    finished = {path.parent.name for path in ran.folder.glob("*/results.json")}
    assert finished == {"logmel-mean-mahalanobis", "logmel-mean-pca"}


def test_a_folder_that_cannot_be_made_costs_one_combination_and_nobody_else(
    data, pipeline, monkeypatch
):
    def make(folder):
        if "knn" in folder.path.name:
            raise OSError(36, "File name too long", str(folder.path))
        return really(folder)

    really = RunFolder.make
    monkeypatch.setattr(RunFolder, "make", make)
    ran = pipeline("--data", data, "--detector", "knn,pca", "--pooling", "mean")

    rows = by_detector(ran.folder)
    assert ran.code == 1
    assert "File name too long" in rows["knn"]["error"]
    assert rows["pca"]["error"] == ""


@pytest.mark.usefixtures("with_figures")
def test_unlabelled_clips_are_scored_and_the_empty_cell_says_why(tmp_path, pipeline):
    keys = [*machine("fan", "id_01", n_test=0), *(f"fan/test/id_01_{i:08}.wav" for i in range(3))]
    ran = pipeline("--data", record(tmp_path / "eval_data", keys))

    assert ran.code == 0
    row = ran.results()["fan", "id_01"]
    assert (row["auc"], row["pauc"], row["n_normal"]) == ("", "", "0")
    lines = (ran.folder / "anomaly_score_fan_id_01.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"id_01_{i:08}.wav" for i in range(3)]
    assert "no labels" in ran.text


@pytest.mark.parametrize(
    ("train", "test", "score_file"),
    [
        (
            "fan/train/section_03_source_train_normal_{:04}_x.wav",
            "fan/source_test/section_03_source_test_{:04}.wav",
            "anomaly_score_fan_section_03_source_test.csv",
        ),
        (
            "fan/train/section_03_source_train_normal_{:04}_x.wav",
            "fan/test/section_03_test_{:04}.wav",
            "anomaly_score_fan_section_03_test.csv",
        ),
        (
            "ToyPet/train/section_00_source_train_normal_{:04}_.wav",
            "ToyPet/test/section_00_test_{:04}.wav",
            "anomaly_score_ToyPet_section_00_test.csv",
        ),
    ],
    ids=["2021", "2022", "2025"],
)
def test_evaluation_sets_of_later_years_give_that_years_score_files(
    train, test, score_file, tmp_path, pipeline
):
    keys = [pattern.format(i) for pattern in (train, test) for i in range(4)]
    record(tmp_path / "eval_data", [*keys, "ToyPet/supplemental/section_00_machine_0001_.wav"])
    ran = pipeline("--data", tmp_path / "eval_data")

    assert ran.code == 0
    assert "supplemental clips are not used: 1 of a machine alone" in ran.err
    assert [path.name for path in ran.folder.glob("*.csv") if "score" in path.name] == [score_file]
    assert list(ran.scores(score_file)) == [test.format(i).split("/")[-1] for i in range(4)]


@pytest.mark.usefixtures("with_figures")
def test_a_machine_with_one_class_keeps_its_scores_and_the_others_their_auc(tmp_path, pipeline):
    only_normal = [key for key in machine("fan", "id_02") if "anomaly" not in key]
    ran = pipeline("--data", record(tmp_path / "data", [*machine("fan"), *only_normal]))

    assert ran.code == 0
    assert ran.results()["fan", "id_02"]["auc"] == ""
    assert ran.results()["fan", "id_00"]["auc"] != ""
    assert ran.results()["fan", "mean"]["auc"] == ran.results()["fan", "id_00"]["auc"]
    assert len(ran.scores("anomaly_score_fan_id_02.csv")) == 4
    assert "4 normal, 0 anomalous" in ran.text


def test_several_machine_types_get_a_table_each_and_a_total(tmp_path, pipeline):
    ran = pipeline("--data", record(tmp_path / "data", [*machine("fan"), *machine("pump")]))

    assert ran.code == 0
    assert {("fan", "id_00"), ("fan", "mean"), ("pump", "id_00"), ("pump", "hmean")} <= set(
        ran.results()
    )
    assert "fan" in ran.out
    assert "pump" in ran.out
    figures = [float(ran.results()[kind, "id_00"]["auc"]) for kind in ("fan", "pump")]
    total = float(ran.results()["total", "mean"]["auc"])
    assert total == pytest.approx(sum(figures) / 2, abs=1e-6)
    assert "total mean" in ran.out


def test_the_score_files_of_a_run_evaluate_to_its_own_figures(tmp_path, pipeline):
    keys = [*machine("fan"), *machine("fan", "id_02"), *machine("pump", n_test=12)]
    ran = pipeline("--data", record(tmp_path / "data", keys))
    evaluated = pipeline("evaluate", ran.folder, "--json")

    assert evaluated.code == 0
    rows = {(r["machine_type"], r["machine_id"]): r for r in json.loads(evaluated.out)}
    for (kind, id_), row in ran.results().items():
        assert f"{rows[kind, id_]['auc']:.6f}" == row["auc"]
        assert f"{rows[kind, id_]['pauc']:.6f}" == row["pauc"]
    scores = ran.scores("anomaly_score_pump_id_00.csv")
    exact = by_hand(scores, "id_00"), by_hand(scores, "id_00", max_fpr=0.1)
    pump = rows["pump", "id_00"]
    assert (pump["auc"], pump["pauc"]) == pytest.approx(exact, abs=1e-12)


def sections(test_folder: str, n_test: int = 5) -> list[str]:
    return [
        *(f"fan/train/section_00_{d}_train_normal_{i:04}_x.wav" for d, n in
          (("source", 6), ("target", 3)) for i in range(n)),
        *(f"fan/{test_folder.format(d)}/section_00_{d}_test_{label}_{i:04}_x.wav"
          for d in ("source", "target") for label in ("normal", "anomaly") for i in range(n_test)),
    ]  # fmt: skip


def harmonic_mean(*values: float) -> float:
    return len(values) / sum(1 / value for value in values)


def by_hand(scores: dict[str, float], *words: str, **options: float) -> float:
    """AUC of the clips whose names hold one of `words`."""
    kept = {name: score for name, score in scores.items() if any(w in name for w in words)}
    return float(roc_auc_score(["anomaly" in name for name in kept], [*kept.values()], **options))


def test_domains_of_2021_are_scored_within_themselves(tmp_path, pipeline):
    ran = pipeline("--data", record(tmp_path / "dev_data", sections("{}_test")))
    source = ran.scores("anomaly_score_fan_section_00_source_test.csv")
    target = ran.scores("anomaly_score_fan_section_00_target_test.csv")

    assert ran.code == 0
    assert len(source) == len(target) == 10
    row = ran.results()["fan", "section_00"]
    assert float(row["auc_source"]) == pytest.approx(by_hand(source, "section"), abs=1e-6)
    assert float(row["auc_target"]) == pytest.approx(by_hand(target, "section"), abs=1e-6)
    cells = [by_hand(s, "section", **o) for s in (source, target) for o in ({}, {"max_fpr": 0.1})]
    assert f"{harmonic_mean(*cells):.3f}" in ran.text
    evaluated = pipeline("evaluate", ran.folder)
    assert f"DCASE 2021 (harmonic mean): {harmonic_mean(*cells):.3f}" in evaluated.text


def test_domains_of_2022_on_share_the_anomalies_of_the_section(tmp_path, pipeline):
    ran = pipeline("--data", record(tmp_path / "dev_data", sections("test")))
    scores = ran.scores("anomaly_score_fan_section_00_test.csv")

    assert ran.code == 0
    row = ran.results()["fan", "section_00"]
    source = by_hand(scores, "source_test_normal", "anomaly")
    target = by_hand(scores, "target_test_normal", "anomaly")
    pauc = by_hand(scores, "section", max_fpr=0.1)
    assert float(row["auc_source"]) == pytest.approx(source, abs=1e-6)
    assert float(row["auc_target"]) == pytest.approx(target, abs=1e-6)
    assert float(row["pauc"]) == pytest.approx(pauc, abs=1e-6)
    assert f"{harmonic_mean(source, target, pauc):.3f}" in ran.text
    evaluated = pipeline("evaluate", ran.folder)
    official = f"DCASE 2023 (harmonic mean): {harmonic_mean(source, target, pauc):.3f}"
    assert official in evaluated.text


def test_an_interrupt_leaves_what_was_done_and_says_how_to_go_on(tmp_path, pipeline):
    record(tmp_path / "data", machine("fan", n_train=300, n_test=2))
    command = ["--data", "data", "--detector", "mlp"]
    with subprocess.Popen(
        [sys.executable, ROOT / "run_pipeline.py", *command],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        while running.poll() is None and not any((tmp_path / "embeddings").glob("**/*.h5")):
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)

    assert running.returncode == 130, out + err
    assert "the same command goes on" in out + err
    assert "Traceback" not in out + err

    resumed = pipeline(*command, "--set", "mlp.epochs=1")
    assert resumed.code == 0
    n_embedded = re.search(r"embed with logmel: (\d+) clips?", resumed.err)
    assert n_embedded is None or int(n_embedded[1]) < 304
    assert resumed.results()[FAN]["n_train"] == "300"
