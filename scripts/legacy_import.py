"""Inside a legacy environment: read a source with its old framework and hand it over in plain files.

    legacy_import.py REQUEST.json          (Python 3.7; run by converter.legacy, which says what a request holds)

`action` of the request, and what it leaves in `folder`, always with answer.json:

    import          graph.pb (frozen) and the signature, or module.pt (TorchScript)
    run             outputs.npz: the source's own outputs for the arrays of inputs.npz, run by run
    keras2onnx      model.onnx, written by keras2onnx
    pytorch2keras   model.h5, written by pytorch2keras, and outputs.npz: that file's outputs for inputs.npz
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import traceback

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from legacy.errors import LegacyError
from legacy.network_script import user_code

_PROTO_LIMIT = 2**31 - 1
_LOADERS = {"keras": "keras_files", "savedmodel": "graph_files", "checkpoint": "graph_files", "protobuf": "graph_files"}
_PACKAGES = ("tensorflow", "keras", "torch", "keras2onnx", "pytorch2keras")


def load_graph(request):
    """The source in its framework: `inputs`, `outputs`, `graph_def()`, `run(feeds, fetches)`."""
    module = importlib.import_module("legacy." + _LOADERS[request["format"]])
    return getattr(module, "load_" + request["format"])(request)


def import_source(request):
    folder = request["folder"]
    if request["format"] == "pytorch":
        from legacy.torch_files import load_torch, trace

        if not request.get("input_shape"):
            raise LegacyError(
                "ParameterError", 'input_shape is needed with toolchain: write sizes such as "1,3,224,224"'
            )
        trace(load_torch(request), request["input_shape"], os.path.join(folder, "module.pt"))
        return {}
    model = load_graph(request)
    graph_def = model.graph_def()
    if graph_def.ByteSize() > _PROTO_LIMIT:
        raise LegacyError(
            "UnsupportedError", "{} is larger than the 2 GB that a frozen graph can hold".format(request["source"])
        )
    with open(os.path.join(folder, "graph.pb"), "wb") as file:
        file.write(graph_def.SerializeToString())
    return {"inputs": model.inputs, "outputs": model.outputs}


def run_source(request):
    runs = _read_inputs(request)
    if request["format"] == "pytorch":
        from legacy.torch_files import load_torch, run_torch

        module = load_torch(request)
        _write_outputs(request, [run_torch(module, arrays) for arrays in runs])
        return {}
    model = load_graph(request)
    constants = {name: np.array(value) for name, value in request["constants"].items()}
    results = []
    for arrays in runs:
        feeds = dict(constants)
        feeds.update({name: arrays[index] for index, name in enumerate(request["feeds"])})
        results.append(model.run(feeds, request["fetches"]))
    _write_outputs(request, results)
    return {}


def keras2onnx(request):
    from legacy.backends import keras_to_onnx

    return keras_to_onnx(request, os.path.join(request["folder"], "model.onnx"))


def pytorch2keras(request):
    from legacy.backends import run_keras_file, torch_to_keras

    path = os.path.join(request["folder"], "model.h5")
    torch_to_keras(request, path)
    run, inputs, outputs = run_keras_file(path)
    answer = {"inputs": inputs, "outputs": outputs, "unrunnable": None}
    try:
        _write_outputs(request, [run(arrays) for arrays in _read_inputs(request)])
    except Exception as error:
        if "NHWC" not in str(error):
            raise
        answer["unrunnable"] = "TensorFlow has no channels-first convolution on a CPU"
    return answer


def _read_inputs(request):
    """One list of arrays per run; strings come as fixed-length bytes."""
    runs = []
    with np.load(os.path.join(request["folder"], "inputs.npz")) as stored:
        for index, count in enumerate(request["runs"]):
            arrays = [stored[f"run{index}_{position}"] for position in range(count)]
            runs.append([array.astype(object) if array.dtype.kind == "S" else array for array in arrays])
    return runs


def _write_outputs(request, results):
    arrays = {}
    for index, outputs in enumerate(results):
        for position, array in enumerate(outputs):
            plain = (
                np.array([bytes(x) for x in array.reshape(-1)]).reshape(array.shape) if array.dtype == object else array
            )
            arrays[f"run{index}_{position}"] = plain
    np.savez(os.path.join(request["folder"], "outputs.npz"), **arrays)


def _versions():
    found = {name: sys.modules[name].__version__ for name in _PACKAGES if hasattr(sys.modules.get(name), "__version__")}
    return dict(found, python=platform.python_version())


_ACTIONS = {"import": import_source, "run": run_source, "keras2onnx": keras2onnx, "pytorch2keras": pytorch2keras}


def main(path):
    with open(path, encoding="utf-8") as file:
        request = json.load(file)
    record = user_code.Record()
    try:
        with user_code.recorded(record):
            answer = dict(_ACTIONS[request["action"]](request), versions=_versions())
    except LegacyError as error:
        answer = {"error": {"kind": error.kind, "message": str(error)}}
    except MemoryError:
        raise
    except Exception as error:
        traceback.print_exc()
        line = (str(error).strip().split("\n") or [""])[0][:300]
        answer = {
            "error": {
                "kind": "SourceError",
                "message": "{}: {}: {}".format(request["source"], type(error).__name__, line),
            }
        }
    answer["user_code"] = record.to_json()
    with open(os.path.join(request["folder"], "answer.json"), "w", encoding="utf-8") as file:
        json.dump(answer, file)


if __name__ == "__main__":
    main(sys.argv[1])
