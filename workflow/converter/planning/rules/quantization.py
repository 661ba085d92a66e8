"""What rules/quantization.smk asks of the .tflite files of a model."""

from __future__ import annotations

import json
import shlex
from typing import Any

from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import flags
from converter.planning.rules.base import float16_of, framework_of, hash_if_file, tflite_of
from converter.planning.rules.exports import ExportInputs
from converter.planning.value_types import Parameters
from converter.planning.variants import VARIANTS

__all__ = ["QuantizationInputs"]


class QuantizationInputs(ExportInputs):
    """layers_*: wildcards.name is a .tflite target without that extension; page_*: it is a model's name."""

    def layers_hub(self, wildcards: Any) -> str:
        return self.hub(tflite_of(wildcards))

    def layers_target(self, wildcards: Any) -> str:
        return self.target(tflite_of(wildcards))

    def layers_options(self, wildcards: Any) -> str:
        return self.export_options(tflite_of(wildcards))

    def layers_data(self, wildcards: Any) -> str:
        return self._load_version(self.plan(tflite_of(wildcards)).parameters.get("quantization", {}).get("load"))

    def layers_memory(self, wildcards: Any, attempt: int = 1) -> int:
        return self.export_memory(tflite_of(wildcards), attempt)

    def page_hub(self, wildcards: Any) -> str:
        return self.hub(float16_of(wildcards))

    def page_target(self, wildcards: Any) -> str:
        return self.target(tflite_of(wildcards))

    def page_options(self, wildcards: Any) -> str:
        """Those of one of the files without its quantization, which `page_blocks` gives for each."""
        parameters = self.plan(float16_of(wildcards)).parameters
        return flags({name: value for name, value in parameters.items() if name != "quantization"})

    def page_blocks(self, wildcards: Any) -> str:
        return shlex.quote(json.dumps(self._blocks(wildcards), sort_keys=True))

    def page_data(self, wildcards: Any) -> str:
        """Hashes of the representative data of all files."""
        blocks = [block for block in self._blocks(wildcards).values() if isinstance(block, dict)]
        return json.dumps([self._load_version(path) for path in sorted({block.get("load", "") for block in blocks})])

    def _load_version(self, load: str | None) -> str:
        """What stands for representative data where no record is kept: all Python files beside a script count."""
        if not load or load.endswith(".npz"):
            return hash_if_file(load)
        return self._code.key(hash_if_file(load), load, {})

    def page_memory(self, wildcards: Any, attempt: int = 1) -> int:
        return self.export_memory(float16_of(wildcards), attempt)

    def _blocks(self, wildcards: Any) -> dict[str, Parameters | str]:
        """The quantization block of the float32 file and of each variant, or why there is no such file."""
        common = self.plan(float16_of(wildcards))
        opsset = common.parameters.get("quantization", {}).get("opsset", "tflite")
        plain = {"optimization": "none", "opsset": "tflite" if opsset == "int8" else opsset, "type": "float32"}
        blocks: dict[str, Parameters | str] = {"float32": plain}
        for variant in VARIANTS:
            plan = self.planner.plan(f"{wildcards.name}.{variant}.tflite")
            blocks[variant] = plan.error or plan.parameters["quantization"]
            if plan.source and common.source and plan.source != common.source:
                blocks[variant] = f"its job makes it from {plan.source.source}, or reads that otherwise"
        return blocks

    def page_versions(self, wildcards: Any) -> str:
        plan = self.exported(wildcards)
        # Its files are quantized in every way, so in the way that takes the quantizer's library too.
        return json.dumps(versions_of(export_packages(plan.extension, framework_of(plan), VARIANTS["dynamic"])))
