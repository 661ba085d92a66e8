"""The original tool's own libraries: keras2onnx (Keras to ONNX) and pytorch2keras (PyTorch to Keras)."""

from __future__ import annotations

import os

import h5py
import numpy as np
import tensorflow as tf

from legacy.errors import LegacyError

__all__ = ["keras_to_onnx", "run_keras_file", "torch_to_keras"]


def keras_to_onnx(request, path):
    """Write the ONNX file of a Keras file. Returns the names of the model's inputs and outputs, in order."""
    from legacy.keras_files import keras_of, load_keras_model

    keras = keras_of(request["source"])
    # keras2onnx decides when it is imported which Keras it converts.
    os.environ["TF_KERAS"] = "1" if keras is tf.keras else "0"
    import keras2onnx

    if tf.__version__.startswith("1."):
        keras.backend.set_learning_phase(0)
    model, _ = load_keras_model(request)
    onnx_model = keras2onnx.convert_keras(model, model.name, target_opset=request["onnx_opset"])
    with open(path, "wb") as file:
        file.write(onnx_model.SerializeToString())
    return {
        "inputs": [value.name for value in onnx_model.graph.input],
        "outputs": [value.name for value in onnx_model.graph.output],
        "model_inputs": list(model.input_names),
        "model_outputs": list(model.output_names),
    }


def torch_to_keras(request, path):
    """Write the .h5 of a PyTorch file, channels last where `change_ordering` is set."""
    import torch
    from pytorch2keras import pytorch_to_keras

    from legacy.torch_files import load_torch

    module = load_torch(request)
    shapes = [list(dims) for dims, _ in request["input_shape"]]
    sizes = [[1 if dim is None else dim for dim in dims] for dims in shapes]
    examples = [torch.from_numpy(np.random.RandomState(0).standard_normal(size).astype("float32")) for size in sizes]
    try:
        model = pytorch_to_keras(
            module,
            examples,
            [tuple(size[1:]) for size in sizes],
            change_ordering=request["change_ordering"],
            verbose=False,
            name_policy="renumerate",
        )
    except Exception as error:
        raise LegacyError(
            "UnsupportedError",
            "pytorch2keras cannot convert {} ({}: {}): leave `backend` out".format(
                request["source"], type(error).__name__, str(error).split("\n")[0][:200]
            ),
        ) from error
    _leave_out_times()
    model.save(path, include_optimizer=False)


def _leave_out_times():
    """HDF5 would record in each array when it was written: the same model gives the same bytes without that."""
    create = h5py.Group.create_dataset

    def without_time(group, name, shape=None, dtype=None, data=None, **options):
        return create(group, name, shape, dtype, data, **dict(options, track_times=False))

    h5py.Group.create_dataset = without_time


def run_keras_file(path):
    """(run, inputs, outputs) of an .h5 that was written here: its layers need this Python's bytecode."""
    model = tf.keras.models.load_model(path, compile=False)

    def run(arrays):
        feeds = [tf.constant(array) for array in arrays]
        result = model(feeds if len(feeds) > 1 else feeds[0], training=False)
        return [tensor.numpy() for tensor in tf.nest.flatten(result)]

    def entries(names, tensors):
        return [
            {"name": names[index], "shape": tensor.shape.as_list(), "dtype": tensor.dtype.name}
            for index, tensor in enumerate(tensors)
        ]

    return run, entries(model.input_names, model.inputs), entries(model.output_names, model.outputs)
