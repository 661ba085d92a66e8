"""OpenVINO's intermediate representation: a graph in .xml, its weights in .bin beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from converter.formats.declarations import TargetFormat
from converter.formats.target_formats.onnx import ONNX

if TYPE_CHECKING:
    from converter.hub.hub import Hub

__all__ = ["OPENVINO"]


def _refusal(hub: Hub) -> str | None:
    texts = [spec.name for spec in hub.inputs if spec.dtype == "string"]
    return f"input {', '.join(texts)} is text, which OpenVINO does not take: ask for .onnx" if texts else None


OPENVINO = TargetFormat(
    name="openvino",
    title="OpenVINO IR",
    extensions=("xml",),
    exporters={
        framework: replace(exporter, packages=(*exporter.packages, "openvino"))
        for framework, exporter in ONNX.exporters.items()
    },
    parameters=frozenset({"onnx_opset"}),
    runtime="converter.openvino.runtime:OpenVINOModel",
    writer="converter.openvino.export:export",
    beside="bin",
    requirements="openvino",
    memory=ONNX.memory,
    refusal=_refusal,
)
