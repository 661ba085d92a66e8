"""One call of litert-torch: an exported program with fixed shapes to a TensorFlow Lite model."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import torch

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.tf.tflite.signature import reorder_by_signature, set_signature
from converter.tflite.flatbuffer import read, schema
from converter.torch.extensions.audio import prepare_torchaudio
from converter.torch.program.flat import flat_outputs
from converter.torch.sources.tracing import quiet, reason

__all__ = ["LitertFailure", "convert_program"]


class LitertFailure(Exception):
    """litert-torch refused the program, as a clause that names the operator where it can."""


class _ChannelsLast(torch.nn.Module):
    """A program whose inputs and outputs are permuted: axis i outside is axis permutation[i] of the program's tensor."""

    def __init__(
        self, module: torch.nn.Module, inputs: Sequence[tuple[int, ...]], outputs: Sequence[tuple[int, ...]]
    ) -> None:
        super().__init__()
        self.model = module
        self._inputs, self._outputs = inputs, outputs
        self.training = False  # not by eval(), which a program's module refuses

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        inside = [_permuted(x, _inverse(order)) for x, order in zip(tensors, self._inputs, strict=True)]
        results = flat_outputs(self.model(*inside))[1]
        return tuple(_permuted(y, order) for y, order in zip(results, self._outputs, strict=True))


def _permuted(tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    return tensor if order == tuple(range(len(order))) else torch.permute(tensor, order)


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(axis) for axis in range(len(order)))


def _is_transposed_3d(node: torch.fx.Node) -> bool:
    """What litert-torch (0.10) has a lowering for, in whose result its converter reads memory that is not its own."""
    if node.target is torch.ops.aten.convolution.default:
        stride = node.args[3]
        return bool(node.args[6]) and isinstance(stride, Sequence) and len(stride) == 3
    return node.target is torch.ops.aten.conv_transpose3d.input


def convert_program(
    program: torch.export.ExportedProgram,
    example: Sequence[torch.Tensor],
    input_orders: Sequence[tuple[int, ...]],
    output_orders: Sequence[tuple[int, ...]],
    input_names: Sequence[str],
    output_names: Sequence[str],
    *,
    keep_64_bit: bool,
) -> schema.ModelT:
    """The program for inputs of exactly the shapes of `example` (in PyTorch's layout), with a signature of these names.

    orders: the permutation of each input and output, axis i of the file's tensor is axis order[i] of PyTorch's.
    keep_64_bit: int64 and float64 stay; else they become 32 bits wide, inputs and outputs too. Raises LitertFailure.
    """
    if any(map(_is_transposed_3d, program.graph.nodes)):
        raise LitertFailure("litert-torch has no transposed convolution of three axes")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    module = _ChannelsLast(program.module(check_guards=False), input_orders, output_orders)
    outside = tuple(_permuted(x, order).contiguous() for x, order in zip(example, input_orders, strict=True))
    try:
        prepare_torchaudio()  # which it imports by way of transformers, where it is installed
        with quiet():
            import litert_torch

            model = litert_torch.convert(module, outside, enable_x64=keep_64_bit)
            content = model._exporter.to_bytes()
    except Exception as error:  # its passes raise whatever stands in their way
        raise LitertFailure(_reason(error)) from error
    if len(content) > MAX_BYTES:
        raise UnsupportedError(
            "a TensorFlow Lite file holds at most 2 GB, and the model is larger: ask for an .onnx file"
        )
    converted = read(content)
    try:
        reorder_by_signature(
            converted,
            [f"args_{index}" for index in range(len(input_names))],
            [f"output_{index}" for index in range(len(output_names))],
        )
    except KeyError as error:
        raise LitertFailure(f"the converted model lacks {error}, which nothing in it uses") from error
    set_signature(converted, input_names, output_names)
    return converted


def _reason(error: BaseException) -> str:
    """The operator that has no lowering and its place in the source, or the first line of what was raised."""
    operator = re.search(r"[Ll]owering not found: (.+)", str(error))
    if operator is None:
        return reason(error)
    name = re.sub(r"^<built-in function (\w+)>$", r"\1", operator[1].strip())
    place = re.findall(r'File "([^"]+)", line (\d+), in (\S+)', str(error))
    own = [entry for entry in place if "/site-packages/" not in entry[0] and not entry[0].startswith("<")]
    where = f" in {own[-1][2]} ({own[-1][0].rsplit('/', 1)[-1]}, line {own[-1][1]})" if own else ""
    return f"litert-torch has no {name}{where}"
