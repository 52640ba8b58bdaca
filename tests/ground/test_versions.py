"""Versions of installed packages."""

from importlib import metadata

import pytest

from ground.versions import installed_version


def test_the_version_is_that_of_the_installed_package():
    assert installed_version("numpy") == metadata.version("numpy")
    assert installed_version() == metadata.version("anomalous-sound-pipeline")


@pytest.mark.parametrize("package", ["no-such-package", "numpy"])
def test_a_package_without_readable_metadata_is_of_an_unknown_version(
    package, tmp_path, monkeypatch
):
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    assert installed_version(package) == "unknown"
