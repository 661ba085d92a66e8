"""How rules call their steps: workflow/bin/step by its path, with the interpreter that runs Snakemake.

What a step needs in its environment stands in the command: other rules of a workflow that has this one as a module have
none of it.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from converter.installation import WORKFLOW
from converter.run_state.folder import VARIABLE

__all__ = ["environment", "step_command"]

_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's start-up messages would bury what matters in a log
    "PYTHONHASHSEED": "0",  # libraries that iterate over sets write other bytes from run to run
    "CUDA_VISIBLE_DEVICES": "-1",  # verification is defined on the CPU
}


def environment(variables: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What steps need and the user has not set otherwise."""
    return {name: value for name, value in _ENVIRONMENT.items() if name not in variables}


def step_command(workflow: Any, folder: str) -> str:
    """The words before a step's name, quoted for the shell. folder: the prefix of the module, "" without one."""
    # A conda environment of a rule is activated, and its Python first on PATH; else that is anyone's.
    conda = any(method.name == "CONDA" for method in workflow.deployment_settings.deployment_method)
    values = {**environment(), **({VARIABLE: folder} if folder else {})}
    words = [*(f"{name}={shlex.quote(value)}" for name, value in values.items())]
    # So that a step can tell whether its rule's shell is still there.
    words.append("CONVERTER_SHELL=$$")
    program = ["python" if conda else sys.executable, "-S", "-E", str(WORKFLOW / "bin" / "step")]
    return " ".join([*words, shlex.join(program)])
