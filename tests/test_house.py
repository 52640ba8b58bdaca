"""The house stays as it was drawn: three rooms that never import each other, a fast --help."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("embed", "cache", "detect")
TOP = {"run_folder", "run_pipeline", "screen", "settings", "systems"}
HEAVY = {"torch", "sklearn", "librosa", "transformers", "scipy", "h5py", "matplotlib", "joblib"}
HEAVY |= {"tensorflow", "tensorflow_hub", "openvino", "onnxruntime"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_nothing_of_the_others(room):
    strangers = {*ROOMS, *TOP, "tests", "benchmarks"} - {room}

    for path in (ROOT / room).glob("**/*.py"):
        assert not imported(path) & strangers, path


@pytest.mark.parametrize(
    ("room", "subject"),
    [("embed", {"h5py", "sklearn"}), ("cache", {"soundfile", "sklearn", "torch", "librosa"}),
     ("detect", {"soundfile", "h5py", "librosa", "soxr"})],
)  # fmt: skip
def test_a_room_does_not_do_the_work_of_another(room, subject):
    for path in (ROOT / room).glob("**/*.py"):
        assert not imported(path) & subject, path


@pytest.mark.parametrize("module", [*ROOMS, "run_pipeline", "settings", "run_folder"])
def test_the_menus_import_nothing_heavy(module):
    code = f"import {module}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""


def test_rooms_are_flat_and_hold_no_utils():
    for room in ROOMS:
        assert not [p for p in (ROOT / room).iterdir() if p.is_dir() and p.name != "__pycache__"]
        assert not {"utils.py", "helpers.py", "ast.py"} & {p.name for p in (ROOT / room).iterdir()}
