"""`import anomalous_sound` is one light import that offers every public function."""

import subprocess
import sys
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


def test_the_wheel_brings_the_rooms_and_nothing_else(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if ".dist-info/" not in n]
    assert {name.partition("/")[0] for name in names} == {
        *ROOMS,
        "run_pipeline.py",
        "anomalous_sound.py",
    }
    in_git = {name for name in listed if name.partition("/")[0] in ROOMS}
    assert set(names) == {*in_git, "run_pipeline.py", "anomalous_sound.py"}
    assert {f"{room}/py.typed" for room in ROOMS} <= set(names)
