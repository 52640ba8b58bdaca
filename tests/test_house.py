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
OURS = {*MAY_USE, "anomalous_sound", "tests", "benchmarks", "docs"}
ROOMS = [name for name in MAY_USE if (ROOT / name).is_dir()]
HEAVY = {"torch", "sklearn", "librosa", "transformers", "scipy", "h5py", "matplotlib", "joblib"}
HEAVY |= {"tensorflow", "tensorflow_hub", "openvino", "onnxruntime"}
LONG_FUNCTION = 15  # lines
MOST_LINES = 500
"""More than this in one file needs a reason, which stands in LONG_FILES."""
LONG_FILES: dict[str, str] = {}
CONTRACTS = "tests/detect/test_detectors.py"  # runs over every entry of the registry
COMMANDS = "tests/journeys/test_whole_job.py"  # the commands that these modules are
LEARN_AND_CHECK = "tests/journeys/test_readme_minute.py"
TESTED_IN = {
    "detect/detector.py": CONTRACTS,
    "detect/scaled_detector.py": CONTRACTS,
    "detect/scaler.py": CONTRACTS,
    "detect/lean_skops.py": "tests/detect/test_saving.py",
    "pipeline/flags.py": "tests/pipeline/test_settings.py",
    "pipeline/page_evidence.py": "tests/journeys/test_pages.py",
    **{
        f"detect/detectors/{name}.py": CONTRACTS
        for name in ("autoencoder", "bands", "density", "distance", "id_classifier", "mahalanobis")
    },
    **{
        f"detect/detectors/{name}.py": CONTRACTS
        for name in ("mixture", "networks", "ocsvm", "subspace")
    },
    **{
        f"detect/detectors/{name}.py": "tests/detect/test_sequences.py"
        for name in ("image_autoencoders", "recurrent", "resnet_autoencoder")
    },
    **{
        f"detect/detectors/{name}.py": "tests/detect/test_sequences.py"
        for name in ("stacked_frames", "svdd")
    },
    "fetch/progress.py": "tests/fetch/test_download.py",
    "fetch/vggish_weights.py": "tests/embed/test_vggish.py",
    "embed/encoders/batch_norm.py": "tests/embed/test_panns.py",
    "embed/encoders/kaldi.py": "tests/embed/test_beats.py",
    "embed/encoders/mel_vision_transformer.py": "tests/embed/test_ced.py",
    "embed/encoders/transformer.py": "tests/embed/test_patch_transformer.py",
    "embed/encoders/hidden_states.py": "tests/embed/test_hub_model.py",
    "embed/encoders/wav2vec2.py": "tests/embed/test_transformers_models.py",
    "embed/vectors.py": "tests/embed/test_encoder.py",
    "pipeline/systems.py": "tests/journeys/test_systems_on_fan.py",
    "pipeline/imported.py": "tests/journeys/test_imported.py",
    "pipeline/explaining.py": "tests/journeys/test_explanations.py",
    **{
        f"pipeline/{name}.py": LEARN_AND_CHECK
        for name in ("checking", "learning", "model", "new_vectors")
    },
    **{
        f"pipeline/{name}.py": LEARN_AND_CHECK
        for name in ("recalibrating", "verdicts", "windowing")
    },
    **{
        f"pipeline/{name}.py": COMMANDS
        for name in ("clips", "command_line", "concluding", "embedding_only", "exits", "fusing")
    },
    **{
        f"pipeline/{name}.py": COMMANDS
        for name in ("grid", "job", "journal", "judging", "names", "outcome", "parts", "plan")
    },
    **{
        f"pipeline/{name}.py": COMMANDS
        for name in ("printing", "run_files", "run_folder", "settings", "sources")
    },
    **{
        f"pipeline/watching/{name}.py": "tests/journeys/test_watch.py"
        for name in ("engine", "listening", "machines", "source", "standard_output", "telling")
    },
    "pipeline/watching/watch.py": "tests/journeys/test_watch.py",
    "pipeline/watching/watch_settings.py": "tests/journeys/test_watch.py",
    "pipeline/watching/delivery_settings.py": "tests/pipeline/watching/test_delivery.py",
    "pipeline/watching/machine_records.py": "tests/pipeline/watching/test_mqtt.py",
    "pipeline/watching/mqtt_connection.py": "tests/pipeline/watching/test_mqtt.py",
    "pipeline/watching/sink.py": "tests/pipeline/watching/test_delivery.py",
}
"""Modules without a test file of their own, and where they are tested instead."""


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


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Find the functions of a module and the methods of its classes, but for constructors."""
    bodies = [tree.body, *(each.body for each in tree.body if isinstance(each, ast.ClassDef))]
    return [
        node
        for body in bodies
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name != "__init__"
    ]


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


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_has_a_test_file(room):
    """tests/<room>/test_<module>.py, or the file that TESTED_IN names."""
    tested = {path.name for path in (ROOT / "tests" / room).rglob("test_*.py")}
    lacking = []

    for path in files(room):
        module = str(path.relative_to(ROOT))
        own = f"test_{'command' if path.stem == '__main__' else path.stem}.py"
        elsewhere = TESTED_IN.get(module, "")
        if path.stem != "__init__" and own not in tested and not elsewhere:
            lacking.append(module)
        assert not elsewhere or (ROOT / elsewhere).is_file(), module

    assert lacking == []


def test_a_place_of_tests_is_given_for_modules_that_are_there():
    assert [module for module in TESTED_IN if not (ROOT / module).is_file()] == []


@pytest.mark.parametrize("room", MAY_USE)
def test_a_long_function_says_what_it_does(room):
    """A short one may be clear by its name; from 16 lines on it has a docstring."""
    lacking = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in files(room)
        for node in functions(ast.parse(path.read_text()))
        if (node.end_lineno or 0) - node.lineno >= LONG_FUNCTION and not ast.get_docstring(node)
    ]

    assert lacking == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_begins_with_a_line_about_it(room):
    for path in files(room):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert said.partition("\n")[0].endswith((".", ":")), path


def test_the_door_is_short():
    assert len((ROOT / "run_pipeline.py").read_text().splitlines()) < 60
