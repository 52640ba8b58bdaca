"""The house stays as it was drawn: rooms on floors, no circles, short files, a fast --help."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_USE = {
    "ground": set(),
    "cache": {"ground"},
    "detect": {"ground"},
    "fetch": {"ground"},
    "embed": {"fetch", "ground"},
    "report": {"detect", "ground"},
    "pipeline": {"embed", "report", "detect", "cache", "fetch", "ground"},
    "run_pipeline": {"pipeline"},
}
OURS = {*MAY_USE, "tests", "benchmarks"}
ROOMS = [name for name in MAY_USE if (ROOT / name).is_dir()]
HEAVY = {"torch", "sklearn", "librosa", "transformers", "scipy", "h5py", "matplotlib", "joblib"}
HEAVY |= {"tensorflow", "tensorflow_hub", "openvino", "onnxruntime"}
MOST_LINES = 500
"""More than this in one file needs a reason, which stands in LONG_FILES."""
LONG_FILES: dict[str, str] = {}


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py")) if room in ROOMS else [ROOT / f"{room}.py"]


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def without_type_checking(tree: ast.Module) -> ast.Module:
    """Leave out the imports that only a type checker sees."""
    body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
    ]
    return ast.Module(body, [])


@pytest.mark.parametrize("room", MAY_USE)
def test_a_room_knows_only_those_below_it(room):
    strangers = OURS - MAY_USE[room] - {room}

    for path in files(room):
        names = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}
        assert not names & strangers, path


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_no_circle_of_imports(room):
    modules = {module_of(path): ast.parse(path.read_text()) for path in files(room)}
    uses = {
        name: (imported(without_type_checking(tree)) & modules.keys()) - {name}
        for name, tree in modules.items()
    }

    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("room", "subject"),
    [
        ("embed", {"h5py", "sklearn"}),
        ("cache", {"soundfile", "sklearn", "torch", "librosa"}),
        ("detect", {"soundfile", "h5py", "librosa", "soxr"}),
        ("report", {"h5py", "torch", "typer"}),
        ("fetch", {"h5py", "sklearn", "soundfile"}),
    ],
)
def test_a_room_does_not_do_the_work_of_another(room, subject):
    for path in files(room):
        names = {name.split(".")[0] for name in imported(ast.parse(path.read_text()))}
        assert not names & subject, path


@pytest.mark.parametrize("module", [*MAY_USE, "pipeline.command_line", "pipeline.run_folder"])
def test_the_menus_import_nothing_heavy(module):
    code = f"import {module}, sys; print(*sorted({HEAVY!r} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == ""


@pytest.mark.parametrize("room", MAY_USE)
def test_a_file_has_one_subject_and_a_bounded_length(room):
    for path in files(room):
        n_lines = len(path.read_text().splitlines())
        assert n_lines <= MOST_LINES or str(path.relative_to(ROOT)) in LONG_FILES, path
        assert path.name not in {"utils.py", "helpers.py", "ast.py"}


def test_the_door_is_short():
    assert len((ROOT / "run_pipeline.py").read_text().splitlines()) < 60
