"""TensorFlow Lite files of one operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from converter.tflite.flatbuffer import schema, write


def single(
    name: str, shapes: dict[str, tuple], constants: list[np.ndarray | None], options: object = None, **changed: object
) -> schema.ModelT:
    """A file of one operator: inputs x, then constants (None: left out), and one output."""
    model, subgraph, operator, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    model.version, model.buffers, subgraph.tensors = 3, [schema.BufferT()], []

    def tensor(label: str, shape: tuple, kind: int = schema.TensorType.FLOAT32, data: np.ndarray | None = None) -> int:
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = label, np.array(shape, np.int32), kind, 0
        entry.isVariable = label == "state"
        if data is not None:
            entry.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = data.reshape(-1).view(np.uint8)
        subgraph.tensors.append(entry)
        return len(subgraph.tensors) - 1

    kinds = {np.dtype("float32"): 0, np.dtype("int32"): 2, np.dtype("int8"): 9}
    first = tensor("x", shapes["x"])
    places = [first]
    for place, array in enumerate(constants):
        if array is None:
            places.append(-1)
        elif array.ndim == 2 and not array.any():
            places.append(tensor("state", array.shape))
        else:
            places.append(tensor(f"constant {place}", array.shape, kinds[array.dtype], array))
    last = tensor("y", shapes["y"])
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    operator.inputs, operator.outputs = np.array(places, np.int32), np.array([last], np.int32)
    if options is not None:
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        operator.builtinOptions = options
    for key, value in changed.items():
        setattr(options, key, value)
    subgraph.inputs, subgraph.outputs, subgraph.operators = [first], [last], [operator]
    model.operatorCodes, model.subgraphs = [code], [subgraph]
    return model


def saved(path: Path, model: schema.ModelT) -> Path:
    write(path / "x.tflite", model)
    return path / "x.tflite"


def relu() -> schema.ModelT:
    return single("RELU", {"x": (2, 3), "y": (2, 3)}, [])
