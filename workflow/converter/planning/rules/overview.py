"""What rules ask that look at many targets: the zoo, the coverage table, pages of models, benchmarks."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from typing import Any

from converter import formats
from converter.planning.config import CONVERTED
from converter.planning.profiles import profiles_file
from converter.planning.rules.base import Planned, hash_if_file
from converter.planning.sources import model_name

__all__ = ["OverviewInputs"]


class OverviewInputs(Planned):
    """wildcards.model: a model of which targets are asked for."""

    def zoo_targets(self, wildcards: Any) -> list[str]:
        """ONNX and TensorFlow Lite of each recipe's model, or of those named by zoo: only."""
        zoo = self.planner.config.zoo
        names = zoo["only"] or zoo["recipes"]
        return [f"{CONVERTED}{name}.{extension}" for name in names for extension in ("onnx", "tflite")]

    # --- the coverage table

    def coverage_reports(self, wildcards: Any) -> list[str]:
        """Reports of the jobs and, where the zoo is asked for, of its targets: the table is made when all are there."""
        return [f"reports/{self.planner.report_name(target)}.json" for target in self._asked(wildcards)]

    def _asked(self, wildcards: Any) -> list[str]:
        targets = self.planner.default_targets()
        if "zoo" in self.requested() or self.planner.config.zoo["only"]:
            targets = [*targets, *self.zoo_targets(wildcards)]
        return targets

    def model_pages(self, wildcards: Any) -> list[str]:
        """A page for each model of which a target is asked for."""
        return sorted({f"reports/pages/{self._model(target)}.html" for target in self._asked(wildcards)})

    def model_reports(self, wildcards: Any) -> list[str]:
        """Reports of one model's targets that are asked for, or of its two usual ones where none is."""
        asked = [target for target in self._asked(wildcards) if self._model(target) == wildcards.model]
        if not asked:  # Snakemake (9.27) puts wildcards into these too: a model named {x} would be taken for one
            return [f"reports/{{model}}.{extension}.json" for extension in ("onnx", "tflite")]
        return [f"reports/{self.planner.report_name(target)}.json" for target in asked]

    # --- devices

    def device_files(self, wildcards: Any) -> list[str]:
        """A model's ONNX and TensorFlow Lite files that can be planned: the usual two, int8, and those that are asked for.

        Not those for a device: one that does not fit is not made, and its report says of the device what the page would.
        """
        usual = [f"{CONVERTED}{wildcards.name}.{suffix}" for suffix in ("onnx", "tflite", "int8.tflite")]
        asked = [target for target in self._asked(wildcards) if self._model(target) == wildcards.name]
        suffixes = (".onnx", ".tflite")
        targets = [target for target in dict.fromkeys([*usual, *asked]) if target.endswith(suffixes)]
        plans = {target: self.planner.plan(self.planner.report_name(target)) for target in targets}
        planned = [name for name, plan in plans.items() if plan.error is None and "device" not in plan.parameters]
        return planned or usual[:1]

    @staticmethod
    def device_profiles(wildcards: Any) -> str:
        """A hash of the profiles."""
        return hash_if_file(str(profiles_file()))

    def model_benchmarks(self, wildcards: Any) -> list[str]:
        """Benchmarks of the model's files where the profile is asked for too: the page shows them."""
        if "reports/profile.html" not in self.requested():
            return []
        names = [name.removeprefix("reports/") for name in self.model_reports(wildcards)]
        return [name for name in self.profiled(wildcards) if name.removeprefix("benchmarks/") in names]

    def _model(self, target: str) -> str:
        plan = self.planner.plan(self.planner.report_name(target))
        return model_name(plan.source.source) if plan.source else Path(plan.name).stem

    def known_reports(self, wildcards: Any) -> str:
        """A hash of the reports of earlier runs: the table shows them too."""
        return _state_of(self.prefix + "reports")

    # --- benchmarks

    def benchmark_options(self, wildcards: Any) -> str:
        settings = self.planner.config.benchmark
        return shlex.join([f"--{key}={value}" for key, value in settings.items() if value is not None])

    def profiled(self, wildcards: Any) -> list[str]:
        """The benchmarks of the jobs' files that a runtime here runs, and of the zoo's where it is asked for."""
        return [
            f"benchmarks/{target.removeprefix(CONVERTED)}.json"
            for target in self._asked(wildcards)
            if target.startswith(CONVERTED) and _is_timed(target)
        ]

    def known_benchmarks(self, wildcards: Any) -> str:
        """A hash of the benchmarks of earlier runs: the page shows them too."""
        return _state_of(self.prefix + "benchmarks")


def _is_timed(target: str) -> bool:
    found = formats.find_target(target.rpartition(".")[2])
    return found is not None and found.timer is not None


def _state_of(folder: str) -> str:
    """A hash that changes when a JSON file below `folder` is added, written or removed."""
    entries = ((str(path), path.stat().st_mtime_ns) for path in Path(folder).rglob("*.json"))
    return hashlib.sha256(json.dumps(sorted(entries)).encode()).hexdigest()[:32]
