"""The order of axes of a file's inputs and outputs: channels-last, or as the source has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from converter.contracts import ExportJob
from converter.hub.hub import Hub, TensorSpec
from converter.torch.program.file_layout import channels_last_order
from converter.wording import channels_last_note

__all__ = ["FileLayout"]


@dataclass(frozen=True)
class FileLayout:
    """The permutation of each input and output of the file."""

    inputs: list[tuple[int, ...]]
    outputs: list[tuple[int, ...]]

    @classmethod
    def of(cls, hub: Hub, job: ExportJob) -> FileLayout:
        """Of the hub's, for `input_layout` of the job."""

        def order(spec: TensorSpec) -> tuple[int, ...]:
            rank = len(spec.shape or ())
            return channels_last_order(rank) if job.input_layout == "nhwc" else tuple(range(rank))

        return cls([order(spec) for spec in hub.inputs], [order(spec) for spec in hub.outputs])

    def given(self, arrays: Sequence[np.ndarray], inputs: Sequence[TensorSpec]) -> list[np.ndarray]:
        """Arrays in the source's layout as the file takes them. inputs: the file's, in the source's order."""
        return [
            np.ascontiguousarray(array.transpose(order)).astype(spec.dtype)
            for array, order, spec in zip(arrays, self.inputs, inputs, strict=True)
        ]

    def returned(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The file's outputs in the source's layout."""
        return [array.transpose(np.argsort(order)) for array, order in zip(arrays, self.outputs, strict=True)]

    def notes(self, hub: Hub) -> list[str]:
        """A sentence for each tensor that is permuted."""
        found = []
        for kind, specs, orders in (("input", hub.inputs, self.inputs), ("output", hub.outputs, self.outputs)):
            for spec, order in zip(specs, orders, strict=True):
                if order != tuple(range(len(order))):
                    found.append(channels_last_note(kind, spec.name, order))
        return found

    def decisions(self) -> list[str]:
        """A few words where any is."""
        return ["channels-last"] if any(list(o) != sorted(o) for o in (*self.inputs, *self.outputs)) else []
