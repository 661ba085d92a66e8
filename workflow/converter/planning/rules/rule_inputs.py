"""Snakemake's input, parameter and resource functions of the plan, so that rules stay declarations."""

from __future__ import annotations

from typing import Any

from converter.planning.rules.imports import ImportInputs
from converter.planning.rules.overview import OverviewInputs
from converter.planning.rules.quantization import QuantizationInputs
from converter.planning.storage import is_remote

__all__ = ["RuleInputs"]


class RuleInputs(ImportInputs, QuantizationInputs, OverviewInputs):
    """All of them, as the Snakefile's `planned`: one class and file for each kind of rules."""

    def default_targets(self, wildcards: Any) -> list[str]:
        """What `snakemake` without a target makes."""
        targets = self.planner.default_targets()
        return [self.storage.object(target) if is_remote(target) else target for target in targets]
