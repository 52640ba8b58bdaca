"""What installs the project agrees with itself: the lock, pip's constraints, the Dockerfile."""

import fnmatch
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def packages():
    lock = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    return {package["name"]: package for package in lock}


def written(requirement):
    """A requirement as the lock notes it: name, extras, range, and which extra asks for it."""
    name, extras, wanted = re.fullmatch(
        r"([\w.-]+)(?:\[([\w,]+)\])?(.*)", requirement
    ).groups()  # fmt: skip
    return name, tuple(sorted((extras or "").split(","))), ",".join(sorted(wanted.split(",")))


def noted(entry):
    extras = tuple(sorted(entry.get("extras", [""])))
    return entry["name"], extras, ",".join(sorted(entry.get("specifier", "").split(",")))


def test_the_lock_was_made_from_these_dependencies(packages):
    project = PROJECT["project"]
    own = packages[project["name"]]
    asked = {(written(r), None) for r in project["dependencies"]}
    for extra, requirements in project["optional-dependencies"].items():
        asked |= {(written(r), extra) for r in requirements}

    locked = set()
    for entry in own["metadata"]["requires-dist"]:
        extra = re.search(r"extra == '([\w-]+)'", entry.get("marker", ""))
        locked.add((noted(entry), extra and extra[1]))

    assert locked == asked, "run `make lock`"
    assert set(own["metadata"]["provides-extras"]) == set(project["optional-dependencies"])
    assert own["version"] == project["version"]


def test_pip_takes_the_versions_of_the_lock(packages):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.partition(";")[0].strip().split("==") for line in lines if line[0] != "#")

    locked = {name: package["version"] for name, package in packages.items()}
    del locked[PROJECT["project"]["name"]]
    assert pinned == locked, "run `make lock`"


def test_the_lock_names_no_place_but_the_public_index(packages):
    sources = {package["source"].get("registry", ".") for package in packages.values()}

    assert sources == {"https://pypi.org/simple", "."}


def test_the_image_is_built_from_all_that_the_wheel_needs():
    kept = {line[1:] for line in IGNORED if line.startswith("!")}
    needed = {package.partition(".")[0] for package in PROJECT["tool"]["setuptools"]["packages"]}
    needed |= {f"{module}.py" for module in PROJECT["tool"]["setuptools"]["py-modules"]}
    needed |= {"pyproject.toml", "constraints.txt", PROJECT["project"]["readme"]}
    needed |= set(PROJECT["project"]["license-files"])

    assert kept == needed
    assert all(any(fnmatch.fnmatch(name, line) for line in IGNORED) for name in kept)  # by `*`
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_is_no_root_user_and_asks_for_extras_that_exist():
    steps = re.findall(r"^([A-Z]+) (.*)", DOCKERFILE.replace("\\\n", ""), re.MULTILINE)
    arguments = dict(value.split("=", 1) for step, value in steps if step == "ARG")

    assert [value for step, value in steps if step == "USER"] == ["1000:1000"]
    assert steps[-1] == ("CMD", '["anomalous-sound", "--help"]')
    assert set(arguments["EXTRAS"].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    used = {name for step, value in steps for name in re.findall(r"\$\{(\w+)\}", value)}
    assert used == set(arguments)
