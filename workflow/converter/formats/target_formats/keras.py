"""Keras files of ordinary layers, made from PyTorch and ONNX models."""

from converter.formats.declarations import Backend, Exporter, TargetFormat

__all__ = ["KERAS"]

KERAS = TargetFormat(
    name="keras",
    title="Keras",
    extensions=("h5", "hdf5", "keras"),
    exporters={
        "pytorch": Exporter(
            "converter.onnx_to_torch.third_way:export_keras",
            packages=("torch", "numpy", "keras", "tensorflow"),
            process="torch+tensorflow",
        ),
        "onnx": Exporter(
            "converter.onnx_to_torch.exports:export_keras",
            packages=("torch", "numpy", "onnx", "keras", "tensorflow"),
            process="torch+tensorflow",
        ),
    },
    backends={"pytorch2keras": Backend("converter.legacy.backends:export_pytorch2keras", ("pytorch",), ("h5", "hdf5"))},
    parameters=frozenset({"input_layout", "backend"}),
    only_from={"input_layout": ("pytorch", "huggingface", "onnx")},
    fixes_lengths=True,
    script="export_keras",
)
