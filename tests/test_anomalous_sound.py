"""`import anomalous_sound` is one light import that offers every public function."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import anomalous_sound

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"embed", "cache", "detect", "report", "fetch", "pipeline", "ground"}


@pytest.mark.parametrize("name", anomalous_sound.__all__)
def test_every_name_is_what_its_module_has(name):
    found = getattr(anomalous_sound, name)

    home = sys.modules[anomalous_sound._PLACES[name]]
    assert found is getattr(home, name)


def test_the_names_are_said_once_in_each_list():
    assert sorted(anomalous_sound.__all__) == sorted(anomalous_sound._PLACES)
    assert dir(anomalous_sound) == sorted(anomalous_sound.__all__)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match="did you mean 'make_encoder'"):
        anomalous_sound.make_encodr  # noqa: B018


def test_importing_it_imports_no_room_but_the_ground():
    code = (
        "import sys; before = set(sys.modules); import anomalous_sound; "
        "print(*sorted(set(sys.modules) - before))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    imported = set(done.stdout.split())
    assert "anomalous_sound" in imported
    assert not {name.partition(".")[0] for name in imported} & {
        *ROOMS - {"ground"},
        "numpy",
        "torch",
    }


def build(kind, source, folder):
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, unpacked, built from what git knows, and the names in git."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("sdist")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    build("sdist", source, folder)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz"), listed


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    build("wheel", sdist[0], folder)
    (path,) = folder.glob("*.whl")
    return path


def test_the_source_distribution_brings_the_rooms_and_what_explains_them(sdist):
    folder, _ = sdist
    found = {path.name for path in folder.iterdir() if not path.name.endswith(".egg-info")}

    modules = {"run_pipeline.py", "anomalous_sound.py"}
    made = {"PKG-INFO", "setup.cfg"}
    assert found == {*ROOMS, *modules, *made, "LICENSE", "README.md", "pyproject.toml"}


def test_the_wheel_brings_the_rooms_and_nothing_else(sdist, wheel):
    _, listed = sdist

    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if ".dist-info/" not in n]
    in_git = {name for name in listed if name.partition("/")[0] in ROOMS}
    assert set(names) == {*in_git, "run_pipeline.py", "anomalous_sound.py"}
    assert {f"{room}/py.typed" for room in ROOMS} <= set(names)


def test_the_command_of_the_wheel_shows_its_help_from_any_folder(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        (entry,) = [n for n in archive.namelist() if n.endswith("entry_points.txt")]
        assert "anomalous-sound = run_pipeline:main" in archive.read(entry).decode()
    code = "import run_pipeline, sys; print(run_pipeline.__file__); sys.exit(run_pipeline.main())"

    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    )  # fmt: skip

    assert done.stdout.startswith(str(tmp_path))
    assert "anomalous" in done.stdout
    assert "--install-completion" in done.stdout
