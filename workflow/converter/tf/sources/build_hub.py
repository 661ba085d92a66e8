"""From a frozen graph and the loaded source to a complete hub: operators, vocabulary, reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tensorflow as tf

from converter.contracts import ImportSpec
from converter.errors import ConverterError, ParameterError, SourceError
from converter.evidence.coverage import assess
from converter.evidence.tf_gradients import tensorflow_probe
from converter.hub.hub import Hub, Run, TensorSpec
from converter.hub.informative import write_evidence
from converter.hub.npz import read_arrays_file
from converter.hub.reference import follows_batch, make_reference
from converter.tf.graph.errors import reason
from converter.tf.graph.graph import GraphDef
from converter.tf.sources.freeze import Frozen
from converter.tf.sources.keys import find_keys, key_runs
from converter.tf.sources.vocabulary import find_vocabulary
from converter.wording import shape_text

__all__ = ["Source", "build_hub", "ranks_boxes"]

RunSource = Callable[[list[np.ndarray]], Sequence[np.ndarray]]

_NO_OPERATORS = frozenset({"Placeholder", "Const", "Identity", "NoOp"})
_RANDOM = (
    "RandomStandardNormal",
    "RandomUniform",
    "RandomUniformInt",
    "TruncatedNormal",
    "Multinomial",
    "RandomShuffle",
)


@dataclass
class Source:
    """A loaded source: `run` computes its outputs (hub order) from arrays (hub order), each time from the stored state."""

    run: RunSource
    notes: list[str] = field(default_factory=list)
    input_candidates: list[TensorSpec] = field(default_factory=list)
    output_candidates: list[TensorSpec] = field(default_factory=list)
    direct: str | None = None
    decisions: list[str] = field(default_factory=list)


def build_hub(spec: ImportSpec, out: Path, frozen: Frozen, source: Source) -> Hub:
    """Make the reference and return the hub; `run_import` writes it. Raises SourceError when the source does not run."""
    vocabulary = find_vocabulary(frozen.graph_def, frozen.inputs)

    def run(arrays: list[np.ndarray]) -> Sequence[np.ndarray]:
        try:
            return source.run(arrays)
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise RuntimeError(reason(error)) from error  # the first line of TensorFlow's message says nothing

    left_out: dict[str, str] = {}
    batch_dynamic, runs, notes = _with_keys(spec, frozen, run, vocabulary, left_out)
    notes = [*source.notes, *_state_notes(frozen), *notes]
    hub = Hub(
        out,
        framework="tensorflow",
        inputs=frozen.inputs,
        outputs=frozen.outputs,
        batch_dynamic=batch_dynamic,
        notes=notes,
        decisions=[*source.decisions, *(["keeps no state between calls"] if frozen.assigned else [])],
        operators=_operators(frozen.graph_def),
        parameters_count=frozen.parameters_count,
        candidates={
            "inputs": source.input_candidates or frozen.inputs,
            "outputs": source.output_candidates or frozen.outputs,
        },
        direct=source.direct,
        extra={"variables": frozen.variables, "vocabulary": vocabulary, "resources": frozen.resources},
    )
    added = assess(
        hub,
        runs,
        lambda: tensorflow_probe(out, frozen.graph_def, frozen.inputs, frozen.outputs, frozen.resources),
        run,
        vocabulary=vocabulary,
        may_add=spec.reference_inputs is None,
    )
    runs = [*runs, *added]
    write_evidence(hub, runs, left_out)
    hub.unproven = hub.unproven or _unread_tables(frozen, runs, spec.reference_inputs is not None)
    return hub


def _with_keys(
    spec: ImportSpec, frozen: Frozen, run: RunSource, vocabulary: dict[str, int], left_out: dict[str, str]
) -> tuple[bool, list[Run], list[str]]:
    """Whether the leading dimension is the batch, the runs, and notes on them.

    What is looked up is looked up with values that the tables hold, by turns with others: as far as the source takes them.
    """
    keys = find_keys(frozen.graph_def, frozen.inputs, frozen.keys)
    if spec.reference_inputs is not None or not keys.known:
        return *_reference(spec, frozen, run, vocabulary, {}, left_out), []
    tries = [(keys.mixed, None), (keys.known, _ONLY_KNOWN), ({}, _NONE_KNOWN)]
    if not frozen.keys:
        del tries[1]
    while True:
        values, note = tries.pop(0)
        try:
            batch_dynamic, runs = _reference(spec, frozen, run, vocabulary, values, left_out)
            break
        except ConverterError:
            if not tries:
                raise
    typical = [entry for entry in runs if entry.kind == "typical"][-1]
    for arrays in key_runs(frozen.inputs, values, typical, batch_dynamic):
        try:
            runs.append(Run(arrays, [np.asarray(output) for output in run(arrays)], "keys of tables"))
        except RuntimeError as error:
            left_out["keys of tables"] = f"the source does not take them: {error}"
    return batch_dynamic, runs, [note] if note else []


_ONLY_KNOWN = "the source fails on values that its lookup table does not hold: none were compared"
_NONE_KNOWN = "the source fails on values drawn from its lookup tables and bins: others were compared"


def _unread_tables(frozen: Frozen, runs: Sequence[Run], given: bool) -> str | None:
    """Why the runs prove nothing of a table: no input that is looked up in it holds one of its keys."""
    for position, spec in enumerate(frozen.inputs):
        held = [set(table.tolist()) for table in frozen.keys.get(spec.name, [])]
        drawn = (
            {value for run in runs for value in np.asarray(run.inputs[position]).reshape(-1).tolist()} if held else ()
        )
        if any(table and table.isdisjoint(drawn) for table in held):
            why = "" if given else ", since the source fails on those drawn here"
            return (
                f"no value of {spec.name} is one that its lookup table holds{why}: give verify.inputs with such values"
            )
    return None


def _shapes(frozen: Frozen) -> str:
    return ", ".join(f"{entry.name} {shape_text(entry.shape or ())}" for entry in frozen.inputs)


def _operators(graph_def: GraphDef) -> dict[str, int]:
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    counts = Counter(node.op for body in bodies for node in body)
    return {op: counts[op] for op in sorted(counts) if op not in _NO_OPERATORS}


def _state_notes(frozen: Frozen) -> list[str]:
    notes = []
    if frozen.assigned:
        names = ", ".join(sorted(frozen.assigned)[:4])
        notes.append(
            f"the model assigns to its variables ({names}); the converted file keeps no state: "
            "every invocation starts from the values stored in the source"
        )
    random = sorted({op for op in _operators(frozen.graph_def) if op.startswith(_RANDOM)})
    if random:
        notes.append(f"the model draws random numbers ({', '.join(random)}): its outputs differ from run to run")
    training = sum(
        node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b for node in frozen.graph_def.node
    )
    if training:
        notes.append(
            f"{training} batch normalizations use the batch's own statistics: the graph was built for training"
        )
    return notes


def _reference(
    spec: ImportSpec,
    frozen: Frozen,
    run: RunSource,
    vocabulary: dict[str, int],
    keys: dict[str, np.ndarray],
    left_out: dict[str, str],
) -> tuple[bool, list[Run]]:
    """Whether the leading dimension is the batch, and the runs.

    A leading dimension that every input leaves unknown is tried as the batch; it is not one (but, say, the length of a
    recording) if the source fails so, or if no output follows it.
    """
    user_inputs = None
    if spec.reference_inputs is not None:
        user_inputs = read_arrays_file(spec.reference_inputs, "verify.inputs")
    arguments = {"samples": spec.samples, "vocabulary": vocabulary, "keys": keys}
    arguments |= {"user_inputs": user_inputs, "left_out": left_out, "ranks": lambda: ranks_boxes(frozen.graph_def)}
    failure = None
    try:
        if all(entry.shape and entry.shape[0] is None for entry in frozen.inputs):
            try:
                runs = make_reference(frozen.inputs, True, run, **arguments)
                if any(follows_batch(runs, position) for position in range(len(frozen.outputs))):
                    return True, runs
            except ParameterError as error:
                if user_inputs is not None:
                    raise
                failure = error
            except ConverterError:
                raise
            except Exception as error:  # whatever TensorFlow raises for shapes it cannot take
                failure = error
        return False, make_reference(frozen.inputs, False, run, **arguments)
    except ConverterError as error:
        raise (failure if isinstance(failure, ConverterError) else error) from failure
    except Exception as error:
        raise SourceError(
            f"{spec.source}: the model itself fails on inputs of the shapes {_shapes(frozen)}: {reason(failure or error)}"
        ) from error


def ranks_boxes(graph_def: GraphDef) -> bool:
    """Whether it takes boxes in the order of their scores: in which order it takes those of equal scores is not defined."""
    return any(op.startswith("NonMaxSuppression") for op in _operators(graph_def))
