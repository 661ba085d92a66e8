"""ONNX hub -> ONNX: simplified, and at the opset asked for; the large weights are streamed from file to file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, external_data_helper, helper

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.onnx.containers import tensors_only
from converter.onnx.core.graphs import model_opset
from converter.onnx.opset import HIGHEST_OPSET, LOWEST_OPSET, convert_opset
from converter.onnx.precision import float32_reference, float32_runner, in_float32, widened
from converter.onnx.simplify import simplify
from converter.tf.onnx.deferred import INLINE_BYTES, DeferredTensors
from converter.tf.onnx.file import write_model
from converter.verification.runtimes import OnnxModel, check_interface
from converter.verification.verify import Verification, verify
from converter.wording import first_line

__all__ = ["export"]


def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write `staged` at the opset asked for, or at the source's, and compare what it computes with the source.

    Raises UnsupportedError where the opset cannot express the model, and above 2 GB.
    """
    asked = job.onnx_opset
    if asked is not None and not LOWEST_OPSET <= asked <= HIGHEST_OPSET:
        raise UnsupportedError(
            f"onnx_opset {asked} cannot be written from an ONNX model, only {LOWEST_OPSET} to {HIGHEST_OPSET}: "
            "set onnx_opset to one of these, or leave it out"
        )
    model = onnx.load(hub.path / "model.onnx", load_external_data=False)
    _load_small(model, hub.path)
    source_opset = model_opset(model)
    simplify(model)
    opset = asked or source_opset or HIGHEST_OPSET
    model = convert_opset(model, opset)
    if opset != source_opset:
        simplify(model)
    for values, specs in ((model.graph.input, hub.inputs), (model.graph.output, hub.outputs)):
        _state_shapes(values, specs)
    tensors = DeferredTensors()
    _defer_large(model, hub.path, tensors)
    write_model(model, tensors, staged)
    del model, tensors
    return _verified(hub, job, staged, opset, source_opset)


def _state_shapes(values: Iterable[ValueInfoProto], specs: Iterable[TensorSpec]) -> None:
    """The shapes that the source turned out to have; sizes that are unknown keep their names."""
    by_name = {spec.name: spec for spec in specs}
    for value in values:
        spec = by_name.get(value.name)
        if spec is None or spec.shape is None or not value.type.HasField("tensor_type"):
            continue
        shape = value.type.tensor_type.shape
        names = [dim.dim_param for dim in shape.dim]
        if len(names) != len(spec.shape):
            names = [""] * len(spec.shape)
        del shape.dim[:]
        shape.SetInParent()
        for size, name in zip(spec.shape, names, strict=True):
            if size is not None:
                shape.dim.add(dim_value=size)
            elif name:
                shape.dim.add(dim_param=name)
            else:
                shape.dim.add()


def _load_small(model: ModelProto, folder: Path) -> None:
    """Read what passes over the graph may look into: sizes, axes, scales."""
    for tensor in external_data_helper._get_all_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL and (_nbytes(tensor) <= INLINE_BYTES or not _can_map(tensor)):
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _can_map(tensor: TensorProto) -> bool:
    """Whether an element is a whole number of bytes."""
    return tensor.data_type not in _PACKED


_PACKED = {
    getattr(TensorProto, name)
    for name in ("STRING", "INT4", "UINT4", "INT2", "UINT2", "FLOAT4E2M1")
    if hasattr(TensorProto, name)
}


def _nbytes(tensor: TensorProto) -> int:
    return int(np.prod(tensor.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def _defer_large(model: ModelProto, folder: Path, tensors: DeferredTensors) -> None:
    """Views of the weights file in place of the weights, which are never in memory as a whole."""
    for position, tensor in enumerate(model.graph.initializer):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        place = external_data_helper.ExternalDataInfo(tensor)
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        path = folder / place.location
        array = np.memmap(path, dtype, "r", place.offset or 0, tuple(tensor.dims) or (1,))
        model.graph.initializer[position].CopyFrom(tensors.stand_in(array.reshape(tuple(tensor.dims)), tensor.name))
    for tensor in external_data_helper._get_all_tensors(model):  # those of constants and of inner graphs
        if tensor.data_location == TensorProto.EXTERNAL:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _verified(hub: Hub, job: ExportJob, staged: Path, opset: int, source_opset: int) -> ExportResult:
    import onnxruntime.capi.onnxruntime_pybind11_state as failures

    result = ExportResult(
        route=["export_onnx"], inputs=list(hub.inputs), outputs=list(hub.outputs), verification=None, opset=opset
    )
    try:
        target = _opened(hub, staged)
        check_interface(target, [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs])
        result.verification = verify(hub.outputs, hub.reference(), target.run, job.tolerance, target.name)
        if not result.verification.passed:
            wide = _in_float32(hub, job, staged, target.name)
            if wide is not None:
                result.verification = wide
                result.notes.append("both files are computed in float32 where they are compared")
    except failures.NotImplemented as error:
        result.unverified_reason = f"onnxruntime cannot run it: {first_line(error)}"
    except tuple(_failures(failures)) as error:
        staged.unlink(missing_ok=True)
        raise UnsupportedError(
            f"ONNX opset {opset} cannot express the model (onnxruntime refuses it: {first_line(error)}): "
            f"leave onnx_opset out, or set it to {source_opset}, the source's"
        ) from error
    return result


def _opened(hub: Hub, staged: Path) -> OnnxModel:
    """The file in onnxruntime; where it has sequences or optionals, as the tensors that were compared with at import."""
    if not hub.extra.get("containers"):
        return OnnxModel(staged)
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        path = Path(folder) / "tensors.onnx"
        plain = tensors_only(onnx.load(staged), hub.extra.get("lengths", {}))
        onnx.save_model(plain, str(path), save_as_external_data=True, location="tensors.weights")
        return OnnxModel(path)


def _in_float32(hub: Hub, job: ExportJob, staged: Path, runtime: str) -> Verification | None:
    """Of files of half precision, whose roundings are more than is allowed: both sides computed in float32. None for others."""
    model = onnx.load(staged)
    if not in_float32(model):
        return None
    source = onnx.load(hub.path / "model.onnx")
    in_float32(source)
    with tempfile.TemporaryDirectory(dir=staged.parent) as folder:
        one, other = Path(folder, "source"), Path(folder, "target")
        one.mkdir()
        other.mkdir()
        runs = float32_reference(hub, float32_runner(source, one))
        run = float32_runner(model, other)
        outputs = [widened(spec) for spec in hub.outputs]
        return verify(outputs, runs, run, job.tolerance, f"{runtime}, in float32")


def _failures(module: object) -> list[type[Exception]]:
    """onnxruntime's exceptions have no common base class of their own (1.32)."""
    return [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Exception)]
