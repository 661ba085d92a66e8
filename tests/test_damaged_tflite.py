"""TensorFlow Lite files that say what cannot be: each ends in a sentence that names it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tflite_files import relu, saved, single

from converter.errors import SourceError, UnsupportedError
from converter.tflite.flatbuffer import schema
from converter.tflite_to_onnx import read_model


def _own_input(model: schema.ModelT) -> None:
    model.subgraphs[0].operators[0].inputs = np.array([1], np.int32)


def _wrong_order(model: schema.ModelT) -> None:
    graph, second = model.subgraphs[0], schema.OperatorT()
    graph.tensors.append(schema.TensorT())
    graph.tensors[2].shape, graph.tensors[2].name = np.array([2, 3], np.int32), "z"
    second.inputs, second.outputs = np.array([0], np.int32), np.array([2], np.int32)
    graph.operators[0].inputs = np.array([2], np.int32)
    graph.operators.append(second)


def _twice(model: schema.ModelT) -> None:
    model.subgraphs[0].operators *= 2


def _calls_itself(model: schema.ModelT) -> None:
    operator = model.subgraphs[0].operators[0]
    model.operatorCodes[0].builtinCode = model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CALL
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.CallOptions, schema.CallOptionsT()


def _change(path: str, value: object) -> Callable[[schema.ModelT], None]:
    def change(model: schema.ModelT) -> None:
        *outer, last = path.split(".")
        target: object = model.subgraphs[0]
        for name in outer:
            target = target[int(name)] if name.isdigit() else getattr(target, name)  # type: ignore[index]
        setattr(target, last, value)

    return change


DAMAGED = {
    "a tensor": (_change("operators.0.inputs", np.array([7], np.int32)), "names tensor 7 of 2"),
    "an output": (_change("outputs", np.array([-1], np.int32)), "names tensor -1 of 2"),
    "a buffer": (_change("tensors.0.buffer", 9), "names buffer 9 of 1"),
    "a code": (_change("operators.0.opcodeIndex", 3), "names operator code 3 of 1"),
    "a shape": (_change("tensors.1.shape", np.array([-2, 3], np.int32)), r"the shape \[-2, 3\]"),
    "a type": (_change("tensors.1.type", 99), "unknown type 99"),
    "another type": (_change("tensors.1.type", schema.TensorType.INT32), "not of the type"),
    "a cycle": (_own_input, "used before it is computed"),
    "the order": (_wrong_order, "used before it is computed"),
    "two writers": (_twice, "has a value already"),
    "a recursion": (_calls_itself, "calls itself"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_ends_in_a_sentence(tmp_path, what):
    change, message = DAMAGED[what]
    model = relu()
    change(model)
    with pytest.raises(SourceError, match=message):
        read_model(saved(tmp_path, model))


def test_a_constant_shorter_than_its_shape(tmp_path):
    model = single("ADD", {"x": (2, 3), "y": (2, 3)}, [np.ones(2, np.float32)], schema.AddOptionsT())
    model.subgraphs[0].tensors[1].shape = np.array([3], np.int32)
    with pytest.raises(SourceError, match="has 8 bytes, and should have 12"):
        read_model(saved(tmp_path, model))


def test_operators_that_onnx_lacks_are_named(tmp_path):
    model = relu()
    custom = schema.OperatorCodeT()
    custom.builtinCode = custom.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    custom.customCode = "RELU"  # no operator of TensorFlow Lite, whatever it calls itself
    random_numbers = schema.OperatorCodeT()
    random_numbers.builtinCode = schema.BuiltinOperator.RANDOM_UNIFORM
    model.operatorCodes = [custom, random_numbers]
    second = schema.OperatorT()
    second.opcodeIndex, second.inputs, second.outputs = 1, np.array([0], np.int32), np.array([1], np.int32)
    model.subgraphs[0].operators.append(second)
    with pytest.raises(UnsupportedError, match='"RELU", RANDOM_UNIFORM'):
        read_model(saved(tmp_path, model))


def test_a_file_that_names_one_object_again_and_again(tmp_path):
    path = saved(tmp_path, relu())
    data = bytearray(path.read_bytes())
    subgraph = schema.Model.GetRootAs(data).Subgraphs(0)._tab
    place = subgraph.Vector(subgraph.Offset(4)) - 4  # the number of tensors
    data[place : place + 4] = (2**28).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(SourceError, match="no whole TensorFlow Lite file"):
        read_model(path)


def test_what_is_no_file_of_tensorflow_lite(tmp_path):
    path = tmp_path / "x.tflite"
    with pytest.raises(SourceError, match="cannot be read"):
        read_model(path)
    for data in (b"", b"TFL3", bytes(4) + b"TFL3", bytes(100)):
        path.write_bytes(data)
        with pytest.raises(SourceError, match="no whole TensorFlow Lite file"):
            read_model(path)
