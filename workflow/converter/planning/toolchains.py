"""Isolated environments of old frameworks: where they are, how they are built, and what to say when they cannot be.

An environment takes 2.3 GB, so it lies in the user's cache and not in the folder of one project:
``$CONVERTER_TOOLCHAINS``, else ``$XDG_CACHE_HOME/converter/toolchains``, else ``~/.cache/converter/toolchains``. Its name
ends in a hash of its list in workflow/envs/, so that a changed list makes another one.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from converter.errors import ConverterError, UnsupportedError
from converter.installation import SCRIPTS, WORKFLOW

__all__ = [
    "PYTHONS",
    "check_available",
    "ensure",
    "environment",
    "is_available",
    "is_built",
    "programs",
    "python",
    "requirements",
    "toolchain_for_keras",
    "toolchain_version",
]

PYTHONS = {"tf2.3": "3.8", "tf1.15": "3.7"}
_MACHINES = ("x86_64", "AMD64")


def requirements(toolchain: str) -> Path:
    """The file with the pinned packages of a legacy environment."""
    return WORKFLOW / "envs" / f"{toolchain}.txt"


def environment(toolchain: str) -> Path:
    """The folder of the environment, whether it is built or not."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = os.environ.get("CONVERTER_TOOLCHAINS") or Path(cache, "converter", "toolchains")
    digest = hashlib.sha256(requirements(toolchain).read_bytes()).hexdigest()[:12]
    return Path(base).absolute() / f"{toolchain}-{digest}"


def python(toolchain: str) -> Path:
    """The interpreter of a legacy environment, whether it is built or not."""
    return environment(toolchain) / "bin" / "python"


def programs(toolchain: str) -> list[Path]:
    """Where the interpreter of a built environment lies, and the Python that it was made from."""
    return [environment(toolchain), python(toolchain).resolve().parents[1]]


def is_built(toolchain: str) -> bool:
    """Whether the environment was built to its end, from the pins as they are now."""
    return (environment(toolchain) / "ready").is_file() and python(toolchain).exists()


def check_available(toolchain: str) -> None:
    """Raise UnsupportedError, with the way out, if the environment is neither built nor can be."""
    if is_built(toolchain):
        return
    version = PYTHONS[toolchain]
    if platform.machine() not in _MACHINES:
        raise UnsupportedError(
            f"toolchain {toolchain} needs an x86-64 machine (its frameworks were never built for {platform.machine()}): "
            "convert there, or leave toolchain out"
        )
    if find_python(version) is None and _find_uv() is None:
        raise UnsupportedError(
            f"toolchain {toolchain} needs Python {version}, which is not on PATH, nor in pyenv, nor in a conda environment: "
            f"install uv, which fetches it (pip install uv), or run `pyenv install {version}` "
            f"or `conda create -n py{version.replace('.', '')} python={version}`"
        )


def is_available(toolchain: str) -> bool:
    """Whether the environment is built, or can be."""
    try:
        check_available(toolchain)
    except UnsupportedError:
        return False
    return True


def toolchain_version(toolchain: str) -> str:
    """A hash of the environment's list and of the programs that run in it: a change of either makes its imports stale."""
    scripts = [SCRIPTS / "legacy_import.py", *sorted((SCRIPTS / "legacy").glob("*.py"))]
    scripts.append(Path(__file__).parents[1] / "importing" / "user_code.py")
    files = b"".join(path.read_bytes() for path in [requirements(toolchain), *scripts])
    return hashlib.sha256(files).hexdigest()[:16]


def toolchain_for_keras(version: str | None) -> str:
    """The environment whose Python most likely wrote a Keras file, by its `keras_version`: 2.4 came with TensorFlow 2.3."""
    numbers = [int(part) for part in (version or "2").split("-")[0].split(".")[:2]]
    return "tf2.3" if [*numbers, 0][:2] >= [2, 4] else "tf1.15"


def _find_uv() -> str | None:
    """On PATH, or where pip put it: beside the Python that runs this."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


@functools.cache
def find_python(version: str) -> str | None:
    """An interpreter of that version ("3.8"): on PATH, in pyenv, in a conda environment. None where there is none."""
    seen: set[str] = set()
    for candidate in _candidates(version):
        path = os.path.abspath(candidate)
        if path not in seen and _is_version(path, version):
            return path
        seen.add(path)
    return None


def _candidates(version: str) -> Iterator[str | Path]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder, f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    yield from sorted(pyenv.glob(f"{version}*/bin/python{version}"), reverse=True)
    prefixes = [os.environ.get("CONDA_PREFIX", "")]
    known = Path.home() / ".conda" / "environments.txt"  # every conda and mamba lists the environments it made there
    if known.is_file():
        prefixes += known.read_text(encoding="utf-8").splitlines()
    for prefix in filter(None, prefixes):
        yield Path(prefix.strip(), "bin", f"python{version}")


def _is_version(path: str, version: str) -> bool:
    """A pyenv shim is there for versions that pyenv has but does not offer in this folder: only running it tells."""
    if not os.access(path, os.X_OK):
        return False
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    run = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
    return run.returncode == 0 and run.stdout.strip() == version


def ensure(toolchain: str) -> Path:
    """The environment's interpreter; builds the environment first if need be, one process at a time.

    Raises ConverterError when it cannot be built. pip's output goes to stderr.
    """
    if not is_built(toolchain):
        check_available(toolchain)
        folder = environment(toolchain)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with open(folder.with_name(folder.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_built(toolchain):
                _build(toolchain, folder)
    return python(toolchain)


def _build(toolchain: str, folder: Path) -> None:
    """Make the environment with uv if there is one, else with venv and pip. The marker comes last."""
    shutil.rmtree(folder, ignore_errors=True)
    version = PYTHONS[toolchain]
    found, uv = find_python(version), _find_uv()
    listed = ["--no-deps", "--requirement", str(requirements(toolchain))]
    if uv is not None:
        # --seed: setuptools, as venv installs it; keras2onnx and TensorFlow 1.15 import its pkg_resources.
        _run(toolchain, [uv, "venv", "--seed", "--python", found or version, str(folder)])
        _run(toolchain, [uv, "pip", "install", "--python", str(folder / "bin" / "python"), *listed])
    else:
        _run(toolchain, [found or f"python{version}", "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
        _run(toolchain, [*pip, "--quiet", *listed])
    (folder / "ready").write_text(f"{toolchain}\n", encoding="utf-8")


def _run(toolchain: str, command: list[str]) -> None:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    run = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    sys.stderr.write(run.stdout)
    if run.returncode:
        lines = [line.strip() for line in run.stdout.splitlines() if line.strip()]
        reason = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "no output")
        raise ConverterError(
            f"the environment of toolchain {toolchain} could not be built ({reason[:300]}): "
            "building it once needs the network and 3 GB; run it again, the log has more"
        )
