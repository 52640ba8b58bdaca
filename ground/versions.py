"""Versions of installed packages."""

from __future__ import annotations

from importlib import metadata

OURS = "anomalous-sound-pipeline"


def installed_version(package: str = OURS) -> str:
    """Return the version of an installed package, "unknown" where its metadata cannot be read.

    That happens from an unpacked source tree, and under a user who may import an environment's
    modules, read already, but not list its folder.
    """
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"
