"""Is a quantized TensorFlow Lite file what its name says? Read from the file, not from what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.errors import UnsupportedError
from converter.tflite.flatbuffer import TENSOR_DTYPES, is_constant, operators, schema
from converter.wording import counted, listed

__all__ = ["Composition", "check", "composition"]

# They convert, or read no values: not arithmetic in float.
_NO_ARITHMETIC = ("QUANTIZE", "DEQUANTIZE", "SHAPE", "RANK", "WHILE", "IF", "CALL_ONCE", "STABLEHLO_COMPOSITE")
_SMALL = 1024  # elements; TensorFlow's own dynamic range quantization leaves smaller weights in float


@dataclass
class Composition:
    """What a file is made of. `constants`: bytes by dtype; `float_operators`: how many of each work on float32."""

    inputs: list[str]
    outputs: list[str]
    constants: Counter[str] = field(default_factory=Counter)
    large_float_constants: list[str] = field(default_factory=list)
    float_operators: Counter[str] = field(default_factory=Counter)
    integer_operators: Counter[str] = field(default_factory=Counter)


def composition(model: schema.ModelT) -> Composition:
    """What a TensorFlow Lite file is made of, over all its subgraphs; operators that do no arithmetic are left out."""
    main = model.subgraphs[0]

    def dtypes(subgraph: schema.SubGraphT, indices: Sequence[int]) -> list[str]:
        return [TENSOR_DTYPES[subgraph.tensors[index].type] for index in indices if index >= 0]

    found = Composition(dtypes(main, main.inputs), dtypes(main, main.outputs))
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            if not is_constant(model, tensor) or tensor.shape is None or len(tensor.shape) == 0:
                continue
            dtype = TENSOR_DTYPES[tensor.type]
            found.constants[dtype] += model.buffers[tensor.buffer].data.nbytes
            if dtype == "float32" and len(tensor.shape) > 1 and np.prod(tensor.shape) >= _SMALL:  # biases aside
                found.large_float_constants.append(tensor.name.decode(errors="replace"))
    for subgraph, operator, name in operators(model):
        if name in _NO_ARITHMETIC:
            continue
        used = dtypes(subgraph, [*operator.inputs, *operator.outputs])
        if "float32" in used or name.startswith("Flex"):
            found.float_operators[name] += 1
        elif {"int8", "uint8"} & set(used):
            found.integer_operators[name] += 1
    return found


def check(model: schema.ModelT, kind: str, boundary: str, opsset: str, float_model: Composition) -> list[str]:
    """Notes for the report; raises UnsupportedError where the file is not of its kind.

    kind: float16, dynamic or integer. boundary: the dtype of the inputs and outputs that are float32 in `float_model`.
    """
    found = composition(model)
    _check_boundary(found, boundary, float_model)
    if kind == "float16":
        return _check_float16(found, float_model)
    if kind == "dynamic":
        return _check_dynamic(found, float_model)
    return _check_integer(found, opsset, float_model)


def _check_boundary(found: Composition, boundary: str, float_model: Composition) -> None:
    for role in ("inputs", "outputs"):
        expected = [boundary if dtype == "float32" else dtype for dtype in getattr(float_model, role)]
        if getattr(found, role) != expected:
            raise UnsupportedError(
                f"the quantizer gave the {role} the types {', '.join(getattr(found, role))} instead of "
                f"{', '.join(expected)}: ask for a .float16.tflite or .dynamic.tflite file"
            )


def _check_float16(found: Composition, float_model: Composition) -> list[str]:
    if not float_model.constants["float32"]:
        return ["the model has no float weights: the file is as without quantization"]
    if not found.constants["float16"]:
        raise UnsupportedError(
            "no weight of the model fits float16 (values beyond 65504): ask for a .tflite file without a suffix"
        )
    if found.large_float_constants:
        return [f"weights with values beyond float16's range stay float32: {_names(found)}"]
    return []


def _check_dynamic(found: Composition, float_model: Composition) -> list[str]:
    if not float_model.constants["float32"]:
        return ["the model has no float weights: the file is as without quantization"]
    names = _names(found)
    if not found.constants["int8"]:
        raise UnsupportedError(
            "no weight of the model belongs to an operator with a kernel for int8 weights"
            f"{f' ({names})' if names else ''}: ask for a .float16.tflite file"
        )
    reason = "as their operators have no kernel for int8 or are in keep_float"
    return [f"weights that stay float32, {reason}: {names}"] if names else []


def _check_integer(found: Composition, opsset: str, float_model: Composition) -> list[str]:
    left = counted(found.float_operators)
    if opsset == "int8" and found.float_operators:
        raise UnsupportedError(
            f"{left} cannot be computed in integers only: write quantization.opsset tflite to leave them in float"
        )
    if not found.integer_operators or (float_model.large_float_constants and not found.constants["int8"]):
        raise UnsupportedError(
            f"no operator of the model can be computed in integers ({left}): ask for a .float16.tflite or "
            ".dynamic.tflite file"
        )
    return [f"operators left in float: {left}"] if found.float_operators else []


def _names(found: Composition) -> str:
    """Of the weights that stay float32; TensorFlow writes where they come from behind a semicolon."""
    return listed([name.partition(";")[0] for name in found.large_float_constants])
