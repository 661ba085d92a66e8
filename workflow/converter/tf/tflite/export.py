"""TensorFlow hub to TensorFlow Lite: the ways to convert a model, tried until one comes out right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf

from converter.contracts import ExportJob, ExportResult
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, TensorSpec
from converter.hub.weights import Weights
from converter.tf.graph.bicubic import expand_bicubic
from converter.tf.graph.bins import expand_bins
from converter.tf.graph.composites import FOR_TFLITE, expand_composites
from converter.tf.graph.einsums import expand_einsums
from converter.tf.graph.fold_scales import fold_scales
from converter.tf.graph.graph import node_name
from converter.tf.graph.graph_bytes import read_graph
from converter.tf.graph.new_axes import expand_new_axes
from converter.tf.graph.places import behind_texts, cut_advice, places_of
from converter.tf.graph.single_unpacks import squeeze_single_unpacks
from converter.tf.graph.spectra import without_complex
from converter.tf.graph.tensor_arrays import has_tensor_arrays, without_tensor_arrays
from converter.tf.graph.tensor_lists import fix_element_shapes, has_tensor_lists, without_tensor_lists
from converter.tf.tflite.convert import ConversionFailure, ConvertOptions, convert_graph, unsupported
from converter.tf.tflite.deferred import deferrable, misplaced, place, transpose_matrices
from converter.tf.tflite.detection import exact_non_max_suppressions
from converter.tf.tflite.direct import convert_direct
from converter.tf.tflite.lstm import STATE_NOTE, keeps_state
from converter.tf.tflite.signature import set_signature
from converter.tflite.flatbuffer import operators, read, schema, write
from converter.verification.tflite import RuntimeRefusal, verify_tflite

__all__ = ["export"]


@dataclass(frozen=True)
class Attempt:
    """One way to convert the model. `note`: what the report says where this way is taken."""

    step: str
    convert: Callable[[], schema.ModelT]
    note: str | None = None


@dataclass
class Outcome:
    """What came of the attempts so far: a file that does not verify, and why others did not come about."""

    result: ExportResult | None = None
    failures: list[ConversionFailure] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def export(hub: Hub, job: ExportJob, staged: Path) -> ExportResult:
    """Write the hub's model to `staged`, verified where LiteRT runs it. Raises UnsupportedError where no way leads there."""
    _check_signature(hub)
    opsset = job.quantization.get("opsset", "tflite")
    outcome = Outcome()
    is_dynamic, integers = _is_dynamic_range(job.quantization), _is_integer(job.quantization)
    for attempt in _attempts(hub, opsset, fuse=not is_dynamic, integers=integers):
        try:
            model = attempt.convert()
        except ConversionFailure as failure:
            outcome.failures.append(failure)
            continue
        result = _finish(hub, job, staged, model, attempt, outcome)
        if result is not None and (result.verification is None or result.verification.passed):
            return result
        outcome.result = result or outcome.result
    if outcome.result is not None:
        return outcome.result
    if any("IsPowerOfTwo" in refusal for refusal in outcome.refusals):
        places = ", ".join(places_of(hub, ("RFFT", "RFFT2D", "FFT")))
        raise UnsupportedError(
            f"TensorFlow Lite transforms lengths that are powers of two only, and others ({places}) where their lengths are "
            "known: give input_shape, or ask for an .onnx file"
        )
    if outcome.refusals:
        raise UnsupportedError(f"LiteRT cannot run the converted model ({outcome.refusals[0]}): ask for an .onnx file")
    failure = outcome.failures[-1] if opsset == "tf" else _most_telling(outcome.failures)
    raise unsupported(failure, opsset, places_of(hub, failure.select + failure.custom))


def _most_telling(failures: list[ConversionFailure]) -> ConversionFailure:
    return next((failure for failure in failures if failure.select or failure.custom), failures[0])


def _check_signature(hub: Hub) -> None:
    if resources := hub.extra.get("resources"):
        raise UnsupportedError(
            f"the model reads {', '.join(resources)}, a resource whose contents are not in its graph, so that TensorFlow Lite "
            "cannot hold them: cut the model behind it with input_nodes"
        )
    for spec in hub.inputs:
        if spec.dtype == "string":
            places = behind_texts(hub)
            where = f" (here {', '.join(places)})" if places else ""
            raise UnsupportedError(
                f"input {spec.name} takes strings, and TensorFlow Lite has no operators that make numbers of them{where}: "
                f"{cut_advice(hub, places)}, or ask for an .onnx or .pb file"
            )
        if spec.shape is None:
            raise UnsupportedError(
                f"input {spec.name} has an unknown number of dimensions, which TensorFlow Lite must know: give input_shape"
            )


def _is_dynamic_range(quantization: dict) -> bool:
    """Whether the file will get int8 weights and no calibration, which no fused LSTM takes, but its matrices do."""
    kind = quantization.get("optimization", "none"), quantization.get("type", "float32")
    return kind == ("default", "float32") and "load" not in quantization


def _is_integer(quantization: dict) -> bool:
    """Whether the file will be calibrated, and its activations int8."""
    if quantization.get("optimization", "none") == "none" or _is_dynamic_range(quantization):
        return False
    return quantization.get("type", "float32") != "float16"


def _attempts(hub: Hub, opsset: str, *, fuse: bool, integers: bool) -> Iterator[Attempt]:
    """The ways in order of preference: fused LSTMs, the batch left free, a batch of 1; Select-TF only on request.

    integers: the file will be quantized by calibration.
    """
    graph_def = _with_input_shapes(read_graph(hub.graph_path), hub.inputs)
    expand_bins(graph_def)
    expand_bicubic(graph_def)
    expand_new_axes(graph_def)
    expand_einsums(graph_def)
    squeeze_single_unpacks(graph_def)
    expand_composites(graph_def, FOR_TFLITE)
    weights = hub.weights()

    def from_graph(graph: tf.compat.v1.GraphDef, options: ConvertOptions) -> schema.ModelT:
        model = _convert(graph, weights, hub.inputs, [spec.tensor for spec in hub.outputs], options)
        set_signature(model, [spec.name for spec in hub.inputs], [spec.name for spec in hub.outputs])
        return model

    if hub.direct is not None and fuse:
        note = "the fused LSTM operator has a fixed batch: the file takes a batch of 1" if hub.batch_dynamic else None
        direct = hub.path / hub.direct
        yield Attempt(
            "export_tflite_direct", lambda: convert_direct(direct, hub.inputs, hub.outputs, ConvertOptions()), note
        )
    free = _with_free_batch(hub, graph_def)
    for graph in (free, graph_def) if free is not graph_def else (free,):
        _pass_shape_checks(graph)
        exact_non_max_suppressions(graph, move_empty=not integers)
    yield Attempt("export_tflite", lambda: from_graph(free, ConvertOptions()))
    if hub.batch_dynamic:
        note = "TensorFlow Lite cannot express this model with a free batch: the file takes a batch of 1"
        single = fix_element_shapes(free if has_tensor_arrays(graph_def) else graph_def)
        yield Attempt("export_tflite", lambda: from_graph(single, ConvertOptions(batch_of_one=True)), note)
    if (real := without_complex(free)) is not None:
        note = "Fourier transforms are written as products with matrices"
        yield Attempt("export_tflite", lambda: from_graph(real, ConvertOptions()), note)
    if opsset == "tf":
        yield Attempt("export_tflite", lambda: from_graph(graph_def, ConvertOptions(opsset="tf")))


def _convert(
    graph_def: tf.compat.v1.GraphDef,
    weights: Weights,
    inputs: list[TensorSpec],
    outputs: list[str],
    options: ConvertOptions,
) -> schema.ModelT:
    """Convert the graph with its large weights outside the converter, or inside where that would give another model."""
    names = deferrable(graph_def, weights) if options.weights == "float32" else []
    while True:
        inside = {name: weights[name] for name in weights if name not in set(names)}
        folded, scaled = fold_scales(graph_def, weights, names)
        folded, outside = transpose_matrices(folded, {name: scaled.get(name, weights[name]) for name in names})
        deferred = [TensorSpec(name, value.shape, "float32", f"{name}:0") for name, value in outside.items()]
        model = read(convert_graph(folded, inside, [*inputs, *deferred], outputs, options))
        wrong = misplaced(model, names)
        if not wrong:
            place(model, list(outside.values()))
            return model
        names = [name for name in names if name not in wrong]


def _with_free_batch(hub: Hub, graph_def: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """The graph with the steps of its loops in tensors, where it has lists or arrays of them and can do without."""
    batched = next((node_name(spec.tensor) for spec in hub.inputs if spec.shape and spec.shape[0] is None), None)
    changed = None
    if has_tensor_arrays(graph_def):
        outputs, inputs = [spec.tensor for spec in hub.outputs], [node_name(spec.tensor) for spec in hub.inputs]
        batch = next((spec.shape[0] for spec in hub.inputs if spec.shape), None)
        changed = without_tensor_arrays(graph_def, outputs, inputs, batched, batch)
    elif has_tensor_lists(graph_def) and batched is not None:
        changed = without_tensor_lists(graph_def, batched)
    return changed or graph_def


def _with_input_shapes(graph_def: tf.compat.v1.GraphDef, inputs: list[TensorSpec]) -> tf.compat.v1.GraphDef:
    """The graph with its inputs' shapes as the hub states them, known dimensions of input_shape included."""
    shapes = {node_name(spec.tensor): tf.TensorShape(spec.shape).as_proto() for spec in inputs}
    for node in graph_def.node:
        if node.op == "Placeholder" and node.name in shapes:
            node.attr["shape"].shape.CopyFrom(shapes[node.name])
    return graph_def


def _pass_shape_checks(graph_def: tf.compat.v1.GraphDef) -> None:
    """EnsureShape hands on what it gets, or fails; the converter (TensorFlow 2.21) has no kernel for it."""
    for body in (graph_def.node, *(function.node_def for function in graph_def.library.function)):
        for node in body:
            if node.op == "EnsureShape":
                node.op = "Identity"
                del node.attr["shape"]


def _finish(
    hub: Hub, job: ExportJob, staged: Path, model: schema.ModelT, attempt: Attempt, outcome: Outcome
) -> ExportResult | None:
    """Write the file and verify it. None, and a line in `outcome.refusals`, where LiteRT does not run it."""
    write(staged, model)
    notes, decisions = [attempt.note] if attempt.note else [], []
    flex = sorted({name for _, _, name in operators(model) if name.startswith("Flex")})
    try:
        verification, inputs, outputs = verify_tflite(staged, hub.inputs, hub.outputs, hub.reference(), job.tolerance)
    except RuntimeRefusal as refusal:
        outcome.refusals.append(str(refusal))
        return None
    if flex:
        notes.append(
            f"it holds Select-TF operators ({', '.join(flex)}): the program that runs it must link LiteRT's Flex delegate; "
            "they were run one by one in TensorFlow here, whose kernels that delegate has"
        )
        decisions.append("needs the Flex delegate")
    if keeps_state(model):
        notes.append(STATE_NOTE)
        decisions.append("keeps state between calls")
    return ExportResult([attempt.step], inputs, outputs, verification, notes=notes, decisions=decisions)
