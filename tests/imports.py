"""Run an import script in this process, and run the hub it wrote, for the tests of the importers."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from conftest import ROOT

from converter.hub.hub import Hub
from converter.running.step_runner import run_import
from converter.tf.graph.graph import GraphDef


def run_step(script: str, source: Path, hub: Path, **parameters: object) -> Hub:
    """The hub that `scripts/{script}.py` makes of `source`; parameters as on its command line."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    import sys

    sys.modules[script] = module
    flags = [f"--{name}={_flag(value)}" for name, value in parameters.items()]
    assert run_import(script, module.import_model, [*flags, "--", str(source), str(hub)]) == 0
    return Hub.read(hub)


def _flag(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def imported(script: str, source: Path, hub: Path, **parameters: object) -> Hub:
    """As `run_step`; the import must succeed, and its graph with its weights must compute the reference."""
    result = run_step(script, source, hub, **parameters)
    assert result.error is None, result.error
    check_reference(result)
    return result


def refused(script: str, source: Path, hub: Path, **parameters: object) -> str:
    """The sentence with which the import ends; a verdict, not a crash, and one sentence."""
    result = run_step(script, source, hub, **parameters)
    assert result.error is not None
    assert result.error["kind"] != "InternalError", result.error
    assert "\n" not in result.error["message"]
    return result.error["message"]


def inline_weights(graph_def: GraphDef, weights: Mapping[str, np.ndarray]) -> GraphDef:
    """A copy of the graph in which the Placeholders named in `weights` are Const nodes again."""
    result = GraphDef()
    result.CopyFrom(graph_def)
    for node in result.node:
        if node.op == "Placeholder" and node.name in weights:
            name, proto = node.name, tf.make_tensor_proto(weights[node.name])
            node.Clear()
            node.name, node.op = name, "Const"
            node.attr["dtype"].type = proto.dtype
            node.attr["value"].tensor.CopyFrom(proto)
    return result


def run_graph(hub: Hub, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    graph_def = GraphDef()
    graph_def.ParseFromString(hub.graph_path.read_bytes())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(inline_weights(graph_def, hub.weights()), name="")
    with tf.compat.v1.Session(graph=graph) as session:
        feeds = dict(zip([spec.tensor for spec in hub.inputs], arrays, strict=True))
        return session.run([spec.tensor for spec in hub.outputs], feeds)


def check_reference(hub: Hub, rtol: float = 1e-5) -> None:
    runs = hub.reference()
    assert sum(len(run.inputs[0]) if run.inputs[0].ndim and hub.batch_dynamic else 1 for run in runs) >= 4
    for run in runs:
        for actual, expected in zip(run_graph(hub, run.inputs), run.outputs, strict=True):
            assert actual.shape == expected.shape
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(
                    actual, expected, rtol=0, atol=rtol * max(np.abs(expected).max(initial=0), 1e-6)
                )
            else:
                np.testing.assert_array_equal(actual, expected)


def names(specs: Sequence) -> list[str]:
    return [spec.name for spec in specs]


def no_large_constants(hub: Hub, limit: int = 64 * 1024) -> bool:
    graph_def = GraphDef()
    graph_def.ParseFromString(hub.graph_path.read_bytes())
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    return all(node.attr["value"].ByteSize() <= limit + 64 for body in bodies for node in body if node.op == "Const")
