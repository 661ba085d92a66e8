"""A recipe's model through the import and export steps, once; hub and files stay for the mutants."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path

from mutation.recipes import Recipe

__all__ = ["TARGETS", "Case", "convert"]

TARGETS = ("onnx", "tflite")


@dataclass(frozen=True)
class Case:
    """One exported file. ranges: see Recipe."""

    model: str
    format: str
    target: str
    hub: Path
    file: Path
    ranges: dict[str, tuple[int, int]]


def convert(recipe: Recipe, folder: Path) -> None:
    """Write the source, hub/, file.onnx, file.tflite and outcome.json, a sentence for each target without a verified file.

    To be called in a process of its own: it imports the frameworks.
    """
    folder.mkdir(parents=True)
    source = recipe.build(folder)
    hub = folder / "hub"
    _run(recipe.script, "run_import", [*_flags(recipe.flags), "--", str(source), str(hub)])
    outcome = {}
    for target in TARGETS:
        report = folder / f"{target}.json"
        arguments = [
            f"--report={report}",
            f"--target=converted/x.{target}",
            "--",
            str(hub),
            str(folder / f"file.{target}"),
        ]
        _run(f"export_{target}", "run_export", arguments)
        written = json.loads(report.read_text())
        outcome[target] = None if written["status"] == "verified" else f"{written['status']}: {written['reason']}"
    (folder / "outcome.json").write_text(json.dumps(outcome))


def _run(script: str, run: str, arguments: list[str]) -> None:
    from converter.running import step_runner

    module = importlib.import_module(script)
    model = module.import_model if run == "run_import" else module.export_model
    if getattr(step_runner, run)(script, model, arguments):
        raise RuntimeError(f"{script} gave up")


def _flags(parameters: dict[str, object]) -> list[str]:
    return [f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in parameters.items()]
