"""Where a wrong file goes wrong behind loops of TensorFlow 1, whose insides cannot be fetched."""

from __future__ import annotations

import numpy as np
import pytest
from file_faults import onnx_faults, tflite_faults

from converter.contracts import ExportJob
from converter.divergence import first_divergence
from converter.divergence.comparison import Side

FAULTS = {".onnx": onnx_faults, ".tflite": tflite_faults}


@pytest.mark.parametrize("extension", [".onnx", ".tflite"])
def test_loops_of_tensorflow_1_are_passed_over(tmp_path, extension):
    """What happens within them cannot be fetched; what lies behind them is compared all the same."""
    import export_onnx
    import export_tflite
    import tensorflow as tf
    from test_export_tflite_tf1_loops import hub_of, recurrent

    def function(x: tf.Tensor, steps: int) -> tuple[tf.Tensor]:
        with tf.name_scope("loop"):
            last = recurrent(x, steps)[1]
        with tf.name_scope("head"):
            return (tf.tanh(last @ tf.constant(np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32))),)

    tf.compat.v1.disable_control_flow_v2()
    try:
        hub = hub_of(tmp_path / "hub", function, 5)
    finally:
        tf.compat.v1.enable_control_flow_v2()
    path, job = tmp_path / f"x{extension}", ExportJob(f"converted/x{extension}")
    result = {".onnx": export_onnx, ".tflite": export_tflite}[extension].export_model(hub, job, path)
    faults = [f for f in FAULTS[extension](path) if f.kind in ("weight", "activation")]
    for kind, operator, named in (
        ("weight", ("MatMul", "FULLY_CONNECTED"), "MatMul"),
        ("activation", ("Tanh", "TANH"), "Tanh"),
    ):
        last = [fault for fault in faults if fault.kind == kind and fault.operator in operator][-1]
        last.write(tmp_path / f"wrong{extension}")
        found = first_divergence(hub, job, tmp_path / f"wrong{extension}", result)
        assert (found["operator"], found["layer"]) == (named, "head"), (str(last), found["reason"], found)


def test_branches_and_loops_in_loops_of_tensorflow_1_are_one_operator(tmp_path):
    import tensorflow as tf
    from test_export_tflite_tf1_loops import hub_of

    from converter.divergence.tensorflow_graph import TensorFlowComputation

    tf1 = tf.compat.v1

    def function(x: tf.Tensor, steps: int) -> tuple[tf.Tensor]:
        def outer(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            inner = tf1.while_loop(lambda j, _: j < 2, lambda j, z: (j + 1, tf.sin(z)), [0, y])[1]
            return i + 1, inner * 1.5

        looped = tf1.while_loop(lambda i, _: i < 3, outer, [0, tf.tanh(x)])[1]
        chosen = tf1.cond(tf.reduce_sum(x) > 0, lambda: tf.cos(looped), lambda: tf.exp(looped))
        return (tf.square(chosen),)

    tf1.disable_control_flow_v2()
    try:
        hub = hub_of(tmp_path / "hub", function, 5)
    finally:
        tf1.enable_control_flow_v2()
    for run in hub.reference():
        side = Side(TensorFlowComputation(hub), run.inputs)
        assert [operator.kind for operator in side.operators if operator.kind in ("Sin", "Cos", "Exp")] == []
        assert {"Tanh", "Exit", "Merge", "Square"} <= {operator.kind for operator in side.operators}
        reads = {operator.kind: operator.inputs for operator in side.operators}
        assert any("Tanh" in name for name in reads["Exit"]) and set(side.outputs) <= set(side.sketches)
        assert all(name in side.sketches for operator in side.operators for name in operator.outputs)
