"""Where the files of the workflow lie: around workflow/ in a clone, in converter_workflow/ beside the packages of a wheel."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DISTRIBUTION", "PACKAGES", "ROOT", "SCRIPTS", "SNAKEFILE", "WORKFLOW", "how_to_install", "is_wheel"]

# As pip knows the program.
DISTRIBUTION = "verified-model-converter"
# The folder that holds the packages `converter` and `aup`.
PACKAGES = Path(__file__).resolve().parents[1]
_IN_WHEEL = PACKAGES / "converter_workflow"


def is_wheel() -> bool:
    """Whether the program was installed by a package manager, whose environment it must not change."""
    return _IN_WHEEL.is_dir()


def how_to_install(extra: str) -> str:
    """The command for the libraries of an extra of pyproject.toml."""
    return f"pip install '{DISTRIBUTION}[{extra}]'" if is_wheel() else f"pip install -r requirements-{extra}.txt"


# The folder of the Snakefile, with rules/, scripts/, configs/ and profiles/.
ROOT = _IN_WHEEL if is_wheel() else PACKAGES.parent
SNAKEFILE = ROOT / "Snakefile"
SCRIPTS = ROOT / "scripts"
# bin/, envs/ and report/.
WORKFLOW = ROOT / "workflow"
