"""`python -m fetch` lists, fetches, verifies and locates the published weights."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from fetch.weights import WEIGHTS


def run_fetch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fetch", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_without_a_network_fails_in_one_line_within_five_seconds(
    tmp_path: Path,
) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    started = time.monotonic()

    ended = run_fetch("fetch", "panns", "--offline", **home)

    assert time.monotonic() - started < 5
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    for part in ("Cnn14_mAP=0.431.pth", "https://zenodo.org", "327 MB", str(tmp_path)):
        assert part in ended.stderr


def test_the_command_line_lists_verifies_and_locates(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}

    listed = run_fetch("list", **home)
    verified = run_fetch("verify", **home)
    located = run_fetch("path", "panns", **home)
    unknown = run_fetch("path", "nobody", **home)

    assert listed.returncode == 0
    for row in WEIGHTS.values():
        assert f"{row.encoder}: " in listed.stdout
        assert row.licence in listed.stdout
    assert verified.returncode == 1
    assert "fetch fetch panns ast" in verified.stderr
    assert located.stdout.strip().endswith("weights/panns/Cnn14_mAP=0.431.pth")
    assert located.stdout.startswith(str(tmp_path))
    assert unknown.returncode == 2


def test_fetching_all_goes_on_after_one_that_fails(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    place = weights_place(tmp_path) / "resnet50"
    place.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (place / name).write_bytes(b"{}")

    ended = run_fetch("fetch", "--offline", **home)

    assert ended.returncode == 1
    assert ended.stdout == f"{place}\n"
    told = [line.split(":")[1].strip() for line in ended.stderr.splitlines()]
    assert told == [name for name in WEIGHTS if name != "resnet50"]
    assert sorted(json.loads((place.parent / "first_seen.json").read_text())) == sorted(
        f"{WEIGHTS['resnet50'].source.name}/{name}" for name in ("model.safetensors", "config.json")
    )


def test_verifying_says_what_it_records_and_goes_on_after_a_wrong_one(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    place = weights_place(tmp_path)
    for name in ("resnet50/model.safetensors", "resnet50/config.json", "vggish/vggish.safetensors"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"{}")

    first = run_fetch("verify", "resnet50", "vggish", **home)
    again = run_fetch("verify", "resnet50", "vggish", **home)
    (place / "vggish/vggish.safetensors").write_bytes(b"[]")
    wrong = run_fetch("verify", "vggish", "resnet50", "panns", **home)

    assert (first.returncode, again.returncode, wrong.returncode) == (0, 0, 1)
    assert first.stdout.count("nothing to compare with, recorded now") == 2
    assert again.stdout.count(": ok, ") == 2
    assert "error: vggish: " in wrong.stderr
    assert "when first fetched here" in wrong.stderr
    assert "panns: missing or damaged" in wrong.stderr
    assert "resnet50: ok" in wrong.stdout


def weights_place(cache: Path) -> Path:
    return cache / "anomalous-sound-pipeline" / "weights"
