"""What rules/quantization.smk asks of the quantized files of a model."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from converter import formats
from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import flags
from converter.planning.rules.base import float16_of, float_of, framework_of, hash_if_file
from converter.planning.rules.exports import ExportInputs
from converter.planning.value_types import Parameters
from converter.planning.variants import PLAIN, VARIANTS

__all__ = ["QuantizationInputs"]


class QuantizationInputs(ExportInputs):
    """layers_*: wildcards.name is a target, without wildcards.extension or, where there is none, without .tflite;
    page_*: it is a model's name, and wildcards.ending, where there is one, the extension of its files.
    """

    def layers_step(self, wildcards: Any) -> str:
        """Of a float file its differences from the source, of a quantized one what quantization costs."""
        block = self.plan(_layered(wildcards)).parameters.get("quantization", {})
        return "layer_differences" if block.get("optimization", "none") == "none" else "quantization_layers"

    def layers_hub(self, wildcards: Any) -> str:
        return self.hub(_layered(wildcards))

    def layers_target(self, wildcards: Any) -> str:
        return self.target(_layered(wildcards))

    def layers_options(self, wildcards: Any) -> str:
        return self.export_options(_layered(wildcards))

    def layers_data(self, wildcards: Any) -> str:
        return self._load_version(self.plan(_layered(wildcards)).parameters.get("quantization", {}).get("load"))

    def layers_code(self, wildcards: Any) -> str:
        return self.code_of(self.layers_step(wildcards), wildcards)

    def layers_memory(self, wildcards: Any, attempt: int = 1) -> int:
        return self.export_memory(_layered(wildcards), attempt)

    def page_hub(self, wildcards: Any) -> str:
        return self.hub(float16_of(wildcards))

    def page_target(self, wildcards: Any) -> str:
        return self.target(float_of(wildcards))

    def page_options(self, wildcards: Any) -> str:
        """Those of one of the files without its quantization, which `page_blocks` gives for each."""
        parameters = self.plan(float16_of(wildcards)).parameters
        return flags({name: value for name, value in parameters.items() if name != "quantization"})

    def page_blocks(self, wildcards: Any) -> str:
        return shlex.quote(json.dumps(self._blocks(wildcards)))

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
        plain: Parameters = dict(PLAIN)
        if opsset := common.parameters.get("quantization", {}).get("opsset"):
            plain["opsset"] = "tflite" if opsset == "int8" else opsset
        blocks: dict[str, Parameters | str] = {"float32": plain}
        for variant in self._suffixes(common.extension):
            plan = self.planner.plan(f"{wildcards.name}.{variant}.{common.extension}")
            blocks[variant] = plan.error or plan.parameters["quantization"]
            if plan.source and common.source and plan.source != common.source:
                blocks[variant] = f"its job makes it from {plan.source.source}, or reads that otherwise"
        return blocks

    def page_versions(self, wildcards: Any) -> str:
        plan = self.exported(wildcards)
        # Its files are quantized in every way, so in those that take further libraries too.
        framework = framework_of(plan)
        packages = {
            package
            for suffix in self._suffixes(plan.extension)
            for package in export_packages(plan.extension, framework, VARIANTS[suffix])
        }
        return json.dumps(versions_of(packages))

    @staticmethod
    def _suffixes(extension: str) -> tuple[str, ...]:
        quantized = formats.target(extension).quantized
        return quantized.suffixes if quantized else ()

    @staticmethod
    def quantized_extensions() -> str:
        """A pattern for the extensions of formats that have quantized files."""
        return "|".join(re.escape(suffix) for suffix, to in formats.target_extensions().items() if to.quantized)


def _layered(wildcards: Any) -> Any:
    return wildcards if hasattr(wildcards, "extension") else float_of(wildcards)
