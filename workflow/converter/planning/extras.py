"""Libraries that only some sources need: a clone installs them when the first one asks (rules/toolchains.smk); in an
environment of a package manager nothing is installed but by its user, who is told what is missing.
"""

from __future__ import annotations

import functools
import importlib.metadata

from packaging.requirements import Requirement

from converter.errors import UnsupportedError
from converter.installation import DISTRIBUTION, how_to_install, is_wheel

__all__ = ["check_extra"]


def check_extra(extra: str, source: str) -> None:
    """Raise UnsupportedError where the program was installed without this extra, which `source` needs."""
    if is_wheel() and (missing := _missing(extra)):
        raise UnsupportedError(
            f"{source} needs {', '.join(missing)}, which this environment does not have: {how_to_install(extra)}"
        )


@functools.cache
def _missing(extra: str) -> list[str]:
    """What the extra asks for and is not installed, or at another version."""
    found = map(Requirement, importlib.metadata.requires(DISTRIBUTION) or [])
    asked = [entry for entry in found if entry.marker is not None and entry.marker.evaluate({"extra": extra})]
    return [str(entry).partition(";")[0].strip() for entry in asked if not _is_installed(entry)]


def _is_installed(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)
