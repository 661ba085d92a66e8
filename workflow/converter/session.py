"""One run of Snakemake: the checked configuration at its start, one sentence per failed target at its end."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from converter import failures
from converter.config import read_config
from converter.errors import ConverterError
from converter.plan import Planner
from converter.rule_inputs import RuleInputs

__all__ = ["Session", "open_session"]

# Steps inherit these from Snakemake.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",  # TensorFlow's start-up messages would bury what matters in a log
    "PYTHONHASHSEED": "0",  # libraries that iterate over sets write other bytes from run to run
    "CUDA_VISIBLE_DEVICES": "-1",  # verification is defined on the CPU
}


class Session:
    """`rule_inputs`: what the rules ask; `start` and `finish` belong to the handlers of the same name in the Snakefile."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.rule_inputs = RuleInputs(planner)
        self._started = time.time()

    def start(self) -> None:
        self._started = time.time()

    def finish(self) -> None:
        """Print one sentence per target that failed in this run, last of all."""
        for sentence in failures.take(self._started - 1):
            print(sentence, file=sys.stderr)


def open_session(values: dict, root: Path) -> Session:
    """Check the configuration. A mistake in it ends the run at once, with one sentence and exit status 1."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Rules call `python`: the interpreter that runs Snakemake, also when its environment was not activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        config = read_config(values, root / "configs" / "zoo.yaml")
    except ConverterError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    return Session(Planner(config))
