"""What is replaced in torch (2.13)."""

from __future__ import annotations

from types import ModuleType

from converter.library_patches.replacing import Patched

__all__ = ["AUTOCAST", "BATCH_NORM", "EXPORTING", "GENERATED_CODE", "OPSET_IMPORT", "PROGRAM_LOADER"]


def _torch(owner: str, name: str, parameters: tuple[str, ...] | None = None, kind: type = object) -> Patched:
    return Patched("torch", owner, name, parameters, kind)


_SERIALIZE, _PACKAGE = "torch._export.serde.serialize", "torch.export.pt2_archive._package"
_PROGRAM = ("self", "exported_program", "state_dict", "constants", "example_inputs", "_unsafe_skip_version_check")
_LOAD = ("f", "map_location", "pickle_module", "weights_only", "mmap", "pickle_load_args")
_LOAD_AOTI = ("file", "model_name", "run_single_threaded", "num_runners", "device_idx")

# What torch.export.load calls, by the names that trust/program_trust.py has for them.
PROGRAM_LOADER = {
    "load": _torch("torch", "load", _LOAD),
    "package pickle": _torch(_PACKAGE, "pickle", kind=ModuleType),
    "native pickle": _torch("torch:_C", "_pickle_load_obj"),
    "native code": _torch(_PACKAGE, "_load_aoti", _LOAD_AOTI),
    "importlib": _torch("torch.utils._pytree", "importlib", kind=ModuleType),
    "enumerations": _torch("torch.utils._pytree", "enum_object_hook", ("obj",)),
    "expressions": _torch(f"{_SERIALIZE}:GraphModuleDeserializer", "_parse_sym_expr", ("self", "expr_str", "hint")),
    "operators": _torch(f"{_SERIALIZE}:GraphModuleDeserializer", "deserialize_operator", ("self", "serialized_target")),
    "program": _torch(f"{_SERIALIZE}:ExportedProgramDeserializer", "deserialize", _PROGRAM),
    "artifact": _torch(_SERIALIZE, "deserialize_torch_artifact", ("serialized",)),
}
# What models may ask to know whether they are being exported.
EXPORTING = (_torch("torch.compiler", "is_exporting", ()), _torch("torch.compiler", "is_compiling", ()))
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
BATCH_NORM = _torch("torch.nn.functional", "batch_norm", _NORM)
# The two ends of `with torch.autocast(...)`.
_AUTOCAST = "torch.amp.autocast_mode:autocast"
AUTOCAST = {
    "enter": _torch(_AUTOCAST, "__enter__", ("self",)),
    "exit": _torch(_AUTOCAST, "__exit__", ("self", "exc_type", "exc_val", "exc_tb")),
}
# Where the dynamo exporter notes the version of a node's domain.
OPSET_IMPORT = _torch(
    "torch.onnx._internal.exporter._ir_passes", "_maybe_set_opset_version", ("opset_imports", "domain", "version")
)

_OPTIONS = ("verbose", "include_stride", "include_device", "colored", "expanded_def", "record_func", "additional_meta")
# Where torch puts names of a graph into Python source.
GENERATED_CODE = {
    "attribute": _torch("torch.fx.graph", "_format_target", ("base", "target")),
    "source": _torch(
        "torch.fx.graph:CodeGen", "_gen_python_code", ("self", "nodes", "root_module", "namespace", *_OPTIONS)
    ),
    "guards": _torch("torch.export._unlift", "_ok_to_generate_guards_fn", ()),
}
