"""One call of TensorFlow's TFLite converter, and its complaints as sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from converter.errors import UnsupportedError
from converter.file_limits import MAX_BYTES
from converter.hub.hub import TensorSpec
from converter.tf.graph.graph_bytes import graph_pieces, total_bytes

__all__ = ["ConversionFailure", "ConvertOptions", "convert_graph", "convert_saved_model", "unsupported"]


@dataclass(frozen=True)
class ConvertOptions:
    """opsset: tflite or tf. weights: float32, float16 or int8 (dynamic range). batch_of_one: see convert_graph."""

    opsset: str = "tflite"
    weights: str = "float32"
    batch_of_one: bool = False


@dataclass(eq=False)
class ConversionFailure(Exception):
    """The converter refused the model.

    `select` and `custom`: operators without a TFLite kernel which Select-TF has, or has not.
    """

    message: str
    select: list[str] = field(default_factory=list)
    custom: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.message


def convert_graph(
    graph_def: tf.compat.v1.GraphDef,
    weights: Mapping[str, np.ndarray],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[str],
    options: ConvertOptions,
) -> bytes:
    """The graph, with its weights put in, as a TFLite flatbuffer without a signature.

    Its inputs and outputs are in the order of `inputs` and `outputs` (tensor names such as "top:1"). Unknown dimensions
    of `inputs` stay unknown, but with `batch_of_one` every leading one is 1. Raises ConversionFailure.

    This is what TFLiteConverterV2.convert does between freezing and its copies of the finished file (TensorFlow 2.21):
    MobileNetV2 takes 0.8 CPU s here, 2.9 from a concrete function, 14 from a Keras model, by way of a SavedModel.
    """
    from tensorflow.lite.python import convert

    size = total_bytes(graph_def, weights)
    if size > MAX_BYTES:
        raise UnsupportedError(
            f"the model takes {size / 1e9:.1f} GB, and TensorFlow's TFLite converter reads at most 2 GB: "
            "ask for an .onnx file"
        )
    model_flags = convert.build_model_flags()
    for spec in inputs:
        array = model_flags.input_arrays.add(name=_array_name(spec.tensor), data_type=_data_type(spec))
        dims = [-1 if dim is None else dim for dim in spec.shape]
        if options.batch_of_one and dims and dims[0] == -1:
            dims[0] = 1
        array.shape.dims.extend(dims)
    model_flags.output_arrays.extend(_array_name(name) for name in outputs)
    return _convert(model_flags, _conversion_flags(options), b"".join(graph_pieces(graph_def, weights)))


def convert_saved_model(path: str, tags: Sequence[str], signature: str, options: ConvertOptions) -> bytes:
    """A SavedModel of schema version 1 as a TFLite flatbuffer with its signature. Raises ConversionFailure."""
    from tensorflow.lite.python import convert

    model_flags = convert.build_model_flags(
        saved_model_dir=path, saved_model_version=1, saved_model_tags=tags, saved_model_exported_names=[signature]
    )
    return _convert(model_flags, _conversion_flags(options), None)


def _conversion_flags(options: ConvertOptions):  # noqa: ANN202 (ConverterFlags, a proto that moves between versions)
    from tensorflow.lite.python import convert

    target_ops = {convert.OpsSet.TFLITE_BUILTINS}
    if options.opsset == "tf":
        target_ops.add(convert.OpsSet.SELECT_TF_OPS)
    return convert.build_conversion_flags(
        target_ops=target_ops,
        model_origin_framework="UNSET",
        post_training_quantize=options.weights != "float32",
        quantize_to_float16=options.weights == "float16",
        enable_mlir_dynamic_range_quantizer=options.weights == "int8",
        # A list of tensors becomes one tensor, whose shape must be known. A graph traced with an unknown batch says -1
        # in its TensorListReserve even when the input's batch is fixed here; this flag reads it as 1.
        default_to_single_batch_in_tensor_list_ops=options.batch_of_one,
        lower_tensor_list_ops=options.opsset != "tf",
        # The default, True, replaces infinite constants by the largest float, which is another model.
        canonicalizing_inf_as_min_max_float=False,
    )


def _array_name(tensor: str) -> str:
    """The converter calls the first output of a node by the node's name alone."""
    return tensor.removesuffix(":0")


def _data_type(spec: TensorSpec) -> int:
    from tensorflow.lite.python import convert

    try:
        return convert.convert_tensor_tf_type_to_tflite_type(tf.as_dtype(spec.dtype))
    except ValueError as error:
        raise UnsupportedError(
            f"input {spec.name} is {spec.dtype}, which TensorFlow Lite does not have: make it float32 in the source, "
            "or ask for an .onnx file"
        ) from error


def _convert(model_flags: object, conversion_flags: object, graph: bytes | None) -> bytes:
    from tensorflow.lite.python import convert

    try:
        return convert.convert(model_flags, conversion_flags, graph)
    except convert.ConverterError as error:
        raise _failure(str(error)) from None


_MLIR_DTYPES = {"f64": "float64", "f16": "float16", "bf16": "bfloat16", "ui16": "uint16", "ui64": "uint64"} | {
    "i8": "int8",
    "complex<f32>": "complex64",
    "complex<f64>": "complex128",
    "!tf_type.string": "string",
}


def _failure(text: str) -> ConversionFailure:
    """The converter's message, several lines of MLIR, as the operators it names and its first error."""
    dtypes = _unusual_dtypes(text)

    def listed(title: str) -> list[str]:
        names = [
            name.strip() for line in re.findall(rf"^{title}: (.*)$", text, re.MULTILINE) for name in line.split(",")
        ]
        names = [name.removeprefix("tf.") for name in dict.fromkeys(names) if name]
        return [f"{name} ({dtypes[name]})" if name in dtypes else name for name in names]

    errors = re.findall(r"error: (?:loc\(.*?\): )?(.*)", text)
    message = next((error for error in errors if error.strip()), text.strip().partition("\n")[0])
    return ConversionFailure(message.strip()[:300], listed("TF Select ops"), listed("Custom ops"))


def _unusual_dtypes(text: str) -> dict[str, str]:
    """{"AddV2": "float64"}: operators that do exist, but not for the dtype they are used with, from the "Details"."""
    found = {}
    for name, arguments in re.findall(r"^\ttf\.(\w+)\((.*?)\) ->", text, re.MULTILINE):
        types = {_MLIR_DTYPES.get(kind) for kind in re.findall(r"<(?:[\d?*]+x)*([^x].*?)>(?:,|$)", arguments)} - {None}
        if types:
            found[name] = ", ".join(sorted(types))
    return found


def unsupported(failure: ConversionFailure, opsset: str, places: Sequence[str] = ()) -> UnsupportedError:
    """The failure as a sentence that says what to change. places: the layers or nodes that hold the operators in question."""
    where = f" (in {', '.join(places[:4])}{', ...' if len(places) > 4 else ''})" if places else ""
    others = "cut the model there with input_nodes or output_nodes, or ask for an .onnx file"
    if failure.custom:
        return UnsupportedError(
            f"TensorFlow Lite has no kernel for {', '.join(failure.custom + failure.select)}{where}"
            f"{'' if opsset == 'tf' else f', Select-TF included for {chr(44).join(failure.custom)}'}: {others}"
        )
    if failure.select:
        return UnsupportedError(
            f"TensorFlow Lite has no kernel for {', '.join(failure.select)}{where}: write quantization.opsset tf to take "
            f"TensorFlow's own into the file (Select-TF), {others}"
        )
    return UnsupportedError(
        f"TensorFlow's TFLite converter refuses the model ({failure.message}): ask for an .onnx file"
    )
