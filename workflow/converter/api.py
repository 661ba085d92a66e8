"""Convert from Python: ``from converter import convert; convert("m.h5", "m.onnx", onnx_opset=13)``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from converter import errors
from converter.errors import ConverterError, VerificationError
from converter.jobs import configure, run
from converter.planning.planner import Planner
from converter.running.progress import Progress

__all__ = ["convert"]


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    cores: int | None = None,
    progress: bool | Callable[[dict | None], None] = False,
    **parameters: object,
) -> dict:
    """Make `target` from `source` in the working directory, with any parameter of a job, and return its report.

    What is already made and still right is not made again. progress: True shows the steps on stderr, as a bar on a terminal
    and in a notebook; a function gets the events of converter.running.events, and None about once a second.

    Raises the ConverterError that says what to change: ParameterError, SourceError, UnsupportedError, UntrustedError, or
    VerificationError for a file that does not compute what its source computes.
    """
    values = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in parameters.items()}
    jobs = configure([{"convert_from": os.fspath(source), "convert_to": os.fspath(target), **values, "skip": False}])
    (name,) = [name for name, _ in jobs.targets]
    # Before anything runs: what planning finds is raised as what it is.
    Planner(jobs.config).require(Planner.report_name(name))
    shown = Progress(sys.stderr, quiet=progress is not True)
    try:
        outcome = run(jobs, cores=cores, listener=progress if callable(progress) else shown.see)
    finally:
        shown.close()
    (row,) = outcome.rows
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.problem:
        raise ConverterError(f"{name}: {' '.join(outcome.problem.split())}")
    if row.reason is None:
        return row.report
    kind = VerificationError
    if row.status != "inaccurate":
        kind = getattr(errors, (row.report or {}).get("error") or "", ConverterError)
    raise kind(row.reason)
