"""Run a converted file: onnxruntime, LiteRT, TensorFlow for a graph, Keras for a Keras file.

Each class takes arrays in the order of its `inputs` and returns arrays in the order of its `outputs`; `name` is the
runtime and its version, for the report.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from converter.hub.hub import TensorSpec

if TYPE_CHECKING:
    from converter.tf.runtime.flex_model import FlexModel

__all__ = ["GraphDefModel", "KerasModel", "OnnxModel", "TFLiteModel", "check_interface", "open_tflite"]


def _name(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


class _Placed(Protocol):
    """Positions of a file's inputs and outputs by their names."""

    input_places: dict[str, int]
    output_places: dict[str, int]


def check_interface(model: _Placed, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises ValueError where the file's inputs or outputs have other names, or another order, than these.

    Positions and names must say the same: some programs feed by the one, some by the other. An input that nothing uses may
    be missing.
    """
    _check_names("inputs", model.input_places, [name for name in inputs if name in model.input_places])
    _check_names("outputs", model.output_places, outputs)


def _check_names(what: str, places: Mapping[str, int], names: Sequence[str]) -> None:
    found = list(dict.fromkeys(places.get(name, -1) for name in names))  # two names may stand for one tensor
    if set(names) != set(places) or found != sorted(found):
        there = ", ".join(sorted(places, key=places.__getitem__))
        raise ValueError(f"the file's {what} are {there}, and should be {', '.join(names)}")


_ONNX_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bfloat16)": "bfloat16",
    "tensor(string)": "string",
}


class OnnxModel:
    """An ONNX file in onnxruntime, on CPU, in one thread: others wait for work at full speed, and jobs run side by side."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [self._spec(value) for value in self._session.get_inputs()]
        self.outputs = [self._spec(value) for value in self._session.get_outputs()]
        self.input_places = {spec.name: place for place, spec in enumerate(self.inputs)}
        self.output_places = {spec.name: place for place, spec in enumerate(self.outputs)}
        self.name = _name("onnxruntime")

    @staticmethod
    def _spec(value: Any) -> TensorSpec:
        kind: str = value.type
        dtype = _ONNX_DTYPES.get(kind, kind.removeprefix("tensor(").removesuffix(")"))
        shape = tuple(dim if isinstance(dim, int) else None for dim in value.shape)
        return TensorSpec(value.name, shape, dtype)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the file's order; strings as objects."""
        # Byte strings would come out as "b'...'" (onnxruntime 1.32).
        feeds = {
            # What has no axes may come as numpy's number, which onnxruntime does not take.
            spec.name: _decoded(array) if spec.dtype == "string" else np.asarray(array)
            for spec, array in zip(self.inputs, arrays, strict=True)
        }
        return self._session.run([spec.name for spec in self.outputs], feeds)


def _decoded(strings: np.ndarray) -> np.ndarray:
    flat = [text.decode() if isinstance(text, bytes) else text for text in strings.reshape(-1)]
    return np.array(flat, object).reshape(strings.shape)


class TFLiteModel:
    """A TensorFlow Lite file in LiteRT, by its signature where it has one, else by its input and output tensors.

    `quantization[i]` of an input or output is (scale, zero_point), scale 0 where it is not quantized. Inputs are resized
    to the arrays, and state variables reset before each run, so that runs do not depend on each other.
    keep_values: let `value` give every tensor of the main subgraph, at the cost of their memory.
    """

    def __init__(self, path: Path, threads: int = 1, *, reset_state: bool = True, keep_values: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # A delegate keeps the values between its operators to itself.
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_values else OpResolverType.AUTO
        self._interpreter = Interpreter(
            model_path=str(path),
            num_threads=threads,
            experimental_preserve_all_tensors=keep_values,
            experimental_op_resolver_type=kernels,
        )
        self._reset_state = reset_state
        self.name = _name("ai-edge-litert")
        inputs: dict[int, dict[str, Any]] = {entry["index"]: entry for entry in self._interpreter.get_input_details()}
        outputs: dict[int, dict[str, Any]] = {entry["index"]: entry for entry in self._interpreter.get_output_details()}
        # Names to tensor indices, which the public list lacks.
        signatures = self._interpreter._get_full_signature_list()
        signature: dict[str, dict[str, int]] | None = next(iter(signatures.values()), None)
        if signature is None:
            signature = {
                "inputs": {entry["name"]: index for index, entry in inputs.items()},
                "outputs": {entry["name"]: index for index, entry in outputs.items()},
            }
        self._inputs = self._ordered(signature["inputs"], inputs)
        self._outputs = self._ordered(signature["outputs"], outputs)
        self.inputs = [self.spec(name, entry) for name, entry in self._inputs]
        self.outputs = [self.spec(name, entry) for name, entry in self._outputs]
        self.input_places = {name: list(inputs).index(entry["index"]) for name, entry in self._inputs}
        self.output_places = {name: list(outputs).index(entry["index"]) for name, entry in self._outputs}
        self.input_quantization = [entry["quantization"] for _, entry in self._inputs]
        self.output_quantization = [entry["quantization"] for _, entry in self._outputs]

    @staticmethod
    def _ordered(names: dict[str, int], details: dict[int, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
        """In the order of the subgraph: LiteRT lists signature keys alphabetically. Names of one tensor stay together."""
        position = {index: place for place, index in enumerate(details)}
        return [(name, details[index]) for name, index in sorted(names.items(), key=lambda item: position[item[1]])]

    @staticmethod
    def spec(name: str, entry: dict[str, Any]) -> TensorSpec:
        """Of an entry of LiteRT's `get_input_details()`."""
        shape = entry["shape_signature"] if len(entry["shape_signature"]) else entry["shape"]
        dtype = "string" if entry["dtype"] in (np.bytes_, np.str_, object) else np.dtype(entry["dtype"]).name
        return TensorSpec(name, tuple(None if dim == -1 else int(dim) for dim in shape), dtype)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the order of the file's signature; inputs may have any size that the file takes."""
        interpreter = self._interpreter
        for (_, entry), array in zip(self._inputs, arrays, strict=True):
            interpreter.resize_tensor_input(entry["index"], list(array.shape), strict=True)
        interpreter.allocate_tensors()
        if self._reset_state:
            interpreter.reset_all_variables()
        for (_, entry), array in zip(self._inputs, arrays, strict=True):
            interpreter.set_tensor(entry["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(entry["index"]) for _, entry in self._outputs]

    def value(self, index: int) -> np.ndarray | None:
        """A tensor of the last run; None for one that has no value, such as that of a branch not taken."""
        try:
            return self._interpreter.get_tensor(index)
        except ValueError:  # "Tensor data is null", "Invalid tensor size" (LiteRT 2.3)
            return None

    def input_indices(self, names: Sequence[str]) -> list[int]:
        """Indices of tensors of the main subgraph, by the names of inputs."""
        indices = {name: entry["index"] for name, entry in self._inputs}
        return [indices[name] for name in names]

    def output_indices(self, names: Sequence[str]) -> list[int]:
        """Indices of tensors of the main subgraph, by the names of outputs."""
        indices = {name: entry["index"] for name, entry in self._outputs}
        return [indices[name] for name in names]

    @staticmethod
    def uses_flex(path: Path) -> bool:
        """Whether the file holds Select-TF operators: their custom codes start with "Flex", as flatbuffer strings."""
        import mmap

        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            position = data.find(b"Flex")
            while position != -1:
                # A flatbuffer string is a 4-byte length, the bytes, and a NUL.
                length = int.from_bytes(data[position - 4 : position], "little")
                text = data[position : position + length]
                if 4 < length < 100 and text.isalnum() and data[position + length] == 0:
                    return True
                position = data.find(b"Flex", position + 1)
        return False


def open_tflite(path: Path) -> TFLiteModel | FlexModel:
    """The file in LiteRT, or, where it holds Select-TF operators, in LiteRT and TensorFlow."""
    if not TFLiteModel.uses_flex(path):
        return TFLiteModel(path)
    from converter.tf.runtime.flex_model import FlexModel

    return FlexModel(path)


class GraphDefModel:
    """A frozen TensorFlow graph, by the names of its input and output tensors ("x:0")."""

    def __init__(self, path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        import tensorflow as tf

        graph_def = tf.compat.v1.GraphDef()
        graph_def.ParseFromString(Path(path).read_bytes())
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(graph_def, name="")
        self._inputs, self._outputs = list(inputs), list(outputs)
        self._session = tf.compat.v1.Session(graph=graph)
        self.inputs = [self._spec(graph.get_tensor_by_name(name)) for name in inputs]
        self.outputs = [self._spec(graph.get_tensor_by_name(name)) for name in outputs]
        self.name = _name("tensorflow")

    @staticmethod
    def _spec(tensor: Any) -> TensorSpec:
        shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
        return TensorSpec(tensor.name.removesuffix(":0"), shape, tensor.dtype.base_dtype.name, tensor.name)

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the file's order."""
        return self._session.run(self._outputs, dict(zip(self._inputs, arrays, strict=True)))


class KerasModel:
    """A Keras file in plain Keras 3, without custom objects."""

    def __init__(self, path: Path) -> None:
        import keras

        self._model = keras.saving.load_model(path, compile=False, safe_mode=True)
        self.inputs = [self._spec(tensor) for tensor in self._model.inputs]
        # A Sequential has no names of its own; the functional model it wraps has.
        names = list((getattr(self._model, "_functional", None) or self._model).output_names)
        self.outputs = [
            TensorSpec(name, tuple(t.shape), str(t.dtype)) for name, t in zip(names, self._model.outputs, strict=True)
        ]
        self.name = _name("keras")

    @staticmethod
    def _spec(tensor: Any) -> TensorSpec:
        return TensorSpec(tensor.name, tuple(tensor.shape), str(tensor.dtype))

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Outputs of inputs, both in the file's order."""
        import keras

        outputs = self._model(list(arrays) if len(arrays) > 1 else arrays[0], training=False)
        return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]
