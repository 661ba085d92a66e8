"""Models that read memory to which nothing was written: what the process left there is not published with the file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from imports import run_graph, run_step

torch = pytest.importorskip("torch")

from converter.torch.program.hub_program import read_program  # noqa: E402

_SIZES = (20, 64, 150, 300, 700)
_NAMES = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", "resize_"}


def _empty(x: torch.Tensor, n: int) -> torch.Tensor:
    return torch.empty(3, n, dtype=torch.int64)


def _empty_like(x: torch.Tensor, n: int) -> torch.Tensor:
    return torch.empty_like(torch.ones(3, n, dtype=torch.int64))


def _new_empty(x: torch.Tensor, n: int) -> torch.Tensor:
    return x.new_empty([3, n], dtype=torch.int64)


def _empty_strided(x: torch.Tensor, n: int) -> torch.Tensor:
    return torch.empty_strided([3, n], [n, 1], dtype=torch.int64)


def _new_empty_strided(x: torch.Tensor, n: int) -> torch.Tensor:
    return x.new_empty_strided([3, n], [n, 1], dtype=torch.int64)


_KINDS: dict[str, Callable] = {
    kind.__name__: kind for kind in (_empty, _empty_like, _new_empty, _empty_strided, _new_empty_strided)
}


class _Reads(torch.nn.Module):
    """Its outputs do not depend on what is read: it is multiplied by zero, which nobody knows beforehand."""

    def __init__(self, kind: Callable) -> None:
        super().__init__()
        self.dense, self._kind = torch.nn.Linear(4, 3), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        unwritten = torch.cat([self._kind(x, n) for n in _SIZES], 1)
        chosen = (x.sum() > 1e30).to(torch.int64)
        return self.dense(x) + (unwritten * chosen).sum(1).to(torch.float32)


def _saved(form: str, kind: str, path: Path) -> Path:
    module, example = _Reads(_KINDS[kind]).eval(), torch.randn(2, 4)
    if form == "program":
        torch.export.save(torch.export.export(module, (example,)), path.with_suffix(".pt2"))
        return path.with_suffix(".pt2")
    torch.jit.save(torch.jit.trace(module, example), path)
    return path


@pytest.mark.parametrize("form", ["program", "script"])
@pytest.mark.parametrize("kind", _KINDS)
def test_it_is_zero(kind: str, form: str, tmp_path: Path) -> None:
    source = _saved(form, kind, tmp_path / "model.pt")
    hub = run_step("import_pytorch", source, tmp_path / "hub", input_shape="2,4")
    assert hub.error is None, hub.error
    operators = {node.target._schema.name for node in read_program(hub).graph.nodes if hasattr(node.target, "_schema")}
    assert not operators & {f"aten::{name}" for name in _NAMES}, operators


def test_nothing_of_the_process_is_in_the_file(tmp_path: Path) -> None:
    """The largest of the numbers in the published file: those of the process are addresses of memory."""
    import onnx

    source, hub, staged = _saved("program", "_empty", tmp_path / "model.pt"), tmp_path / "hub", tmp_path / "model.onnx"
    assert run_step("import_pytorch", source, hub).error is None
    command = [sys.executable, str(ROOT / "scripts" / "export_onnx.py"), str(hub), str(staged)]
    subprocess.run([*command, "--report", str(tmp_path / "report.json"), "--target", "model.onnx"], check=True)
    model = onnx.load(staged)
    tensors = [*model.graph.initializer, *(a.t for node in model.graph.node for a in node.attribute if a.HasField("t"))]
    numbers = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
    assert max(np.abs(array).max(initial=0) for array in numbers if array.dtype == np.int64) < 10_000


def test_script_with_control_flow(tmp_path: Path) -> None:
    """Kept as TorchScript; also in a module within it."""

    class Part(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.empty(3, 700, dtype=torch.int64).sum(1)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.part = torch.nn.Linear(4, 3), Part()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.part(self.dense(x))
            for _ in range(int(x.abs().sum()) % 3):
                y = y + torch.empty_like(y)
            return y

    from converter.torch.sources.archives import load_torchscript

    torch.jit.save(torch.jit.script(Net().eval()), tmp_path / "model.pt")
    script = load_torchscript(tmp_path / "model.pt", trusted=False)
    kinds = {node.kind() for node in script.inlined_graph.findAllNodes("aten::empty", True)}
    assert not kinds and "zeros_like" in str(script.inlined_graph)
    x = torch.randn(2, 4)
    assert torch.equal(script(x), script.dense(x))


@pytest.mark.parametrize("trusted", [False, True])
def test_an_operator_that_makes_its_tensor_larger(trusted: bool, tmp_path: Path) -> None:
    class Grows(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.zeros(1).resize_([3, 700]).sum()

    torch.jit.save(torch.jit.script(Grows().eval()), tmp_path / "model.pt")
    flags = {"trusted": True} if trusted else {}
    error = run_step("import_pytorch", tmp_path / "model.pt", tmp_path / "hub", input_shape="2,4", **flags).error
    assert error is not None and error["kind"] == ("UnsupportedError" if trusted else "UntrustedError"), error
    assert "resize_" in error["message"]


def test_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(np.ones((4, 3), "f4"))

        def call(self, x: tf.Tensor) -> dict:
            parts = [tf.raw_ops.Empty(shape=[3, n], dtype=tf.int64, init=False) for n in _SIZES]
            chosen = tf.cast(tf.reduce_sum(x) > 1e30, tf.int64)
            return {"y": x @ self.weight + tf.cast(tf.reduce_sum(tf.concat(parts, 1) * chosen, 1), tf.float32)}

    net = Net()
    net.serve = tf.function(net.call, input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    tf.saved_model.save(net, tmp_path / "model", signatures=net.serve)
    hub = run_step("import_savedmodel", tmp_path / "model", tmp_path / "hub")
    assert hub.error is None, hub.error
    graph_def = tf.compat.v1.GraphDef.FromString(hub.graph_path.read_bytes())
    bodies = [graph_def.node, *(function.node_def for function in graph_def.library.function)]
    found = [node for body in bodies for node in body if node.op == "Empty"]
    assert found and all(node.attr["init"].b for node in found)
    run = hub.reference()[0]
    np.testing.assert_allclose(run_graph(hub, run.inputs)[0], run.outputs[0], rtol=1e-5)
