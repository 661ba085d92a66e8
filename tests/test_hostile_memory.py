"""PyTorch files whose operators reach beyond their tensors: any of the process's memory could be read, and written."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from imports import run_step

torch = pytest.importorskip("torch")

from converter.torch.trust.bounds import is_bounded  # noqa: E402
from converter.torch.trust.script_trust import named_unbounded_operator  # noqa: E402

_ops = torch.ops


class _Reaches(torch.nn.Module):
    def __init__(self, reach: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._reach = reach

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._reach(torch.relu(x))


_KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "inductor::_reinterpret_tensor": lambda x: _ops.inductor._reinterpret_tensor(x, [2, 4], [4, 1], 2000),
    "aten::_reshape_alias_copy": lambda x: _ops.aten._reshape_alias_copy(x, [20, 40], [40, 1]),
    "mkldnn::data_ptr": lambda x: x + _ops.mkldnn.data_ptr(x.to_mkldnn()),
    "aten::segment_reduce": lambda x: _ops.aten.segment_reduce(
        x.flatten(), "sum", lengths=torch.tensor([800]), unsafe=True
    ),
}


@pytest.mark.parametrize("kind", ["inductor::_reinterpret_tensor", "aten::segment_reduce"])
def test_programs(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(_Reaches(_KINDS[kind]), (torch.ones(2, 4),)), source)
    error = run_step("import_pytorch", source, tmp_path / "hub").error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert kind.partition("::")[2] in error["message"] and "trusted: true" in error["message"]


@pytest.mark.parametrize("kind", ["inductor::_reinterpret_tensor", "aten::_reshape_alias_copy"])
def test_scripts(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "model.pt"
    torch.jit.save(torch.jit.trace(_Reaches(_KINDS[kind]), torch.ones(2, 4), check_trace=False), source)
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape="2,4").error
    assert error is not None and error["kind"] == "UntrustedError", error
    assert "beyond its tensors" in error["message"] and str(source) in error["message"]


def test_scripts_that_reach_while_they_are_loaded(tmp_path: Path) -> None:
    """__setstate__ runs before anybody could look at the module."""

    class Restores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4))

        @torch.jit.export
        def __getstate__(self):
            return self.weight, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[torch.Tensor, bool]):
            self.weight = torch.ops.inductor._reinterpret_tensor(state[0], [4], [1], 2000)
            self.training = state[1]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    source = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(Restores()), source)
    with zipfile.ZipFile(source) as archive:
        assert any(b"_reinterpret_tensor" in archive.read(name) for name in archive.namelist() if name.endswith(".py"))
    error = run_step("import_pytorch", source, tmp_path / "hub", input_shape="2,4").error
    assert error is not None and error["kind"] == "UntrustedError" and "ops.inductor" in error["message"], error


@pytest.mark.parametrize(
    "code",
    [
        "ops.inductor._reinterpret_tensor(x)",
        "ops . mkldnn.data_ptr(x)",
        "ops\\\n.inductor.f(x)",
        "ops # a comment\n.inductor.f(x)",
        'getattr(ops, "inductor").f(x)',
        "other = ops\nother.inductor.f(x)",
        "torch._reshape_alias(x, [1], [1])",
        'getattr(torch, "_reshape" "_alias")(x, [1], [1])',
        'getattr(torch, "_sparse_coo_tensor\\x5funsafe")(x)',
    ],
)
def test_ways_to_write_it(code: str) -> None:
    assert named_unbounded_operator(code) is not None


@pytest.mark.parametrize(
    "code", ["ops.quantized.linear(x)", "ops.torchvision.nms(a, b, c)", "self.ops.f(x)", "ops = 5"]
)
def test_what_models_consist_of(code: str) -> None:
    assert named_unbounded_operator(code) is None


@pytest.mark.parametrize(
    ("name", "bounded"),
    [
        *((name, True) for name in ("aten::relu", "aten::as_strided", "quantized::linear", "torchvision::nms")),
        *((name, False) for name in (*_KINDS, "aten::resize_", "aten::_sparse_coo_tensor_unsafe", "c10d::send")),
        *((name, False) for name in ("inductor::resize_storage_bytes_", "static_runtime::create_owned_ref")),
    ],
)
def test_operators(name: str, bounded: bool) -> None:
    assert is_bounded(name) is bounded


@pytest.mark.parametrize("place", ["attribute", "placeholder", "none"])
def test_compiled_code_in_a_graph(place: str) -> None:
    """XLA's code may call what the process has registered, with addresses of the file's choice."""
    from tensorflow.core.framework import node_def_pb2

    from converter.tf.trust.refused_operators import reaches_out

    node = node_def_pb2.NodeDef(name="call", op="XlaCallModule")
    if place == "placeholder":
        node.attr["module"].placeholder = "module"
    else:
        called = b"custom_call_v1" if place == "attribute" else b"add_v1"
        node.attr["module"].s = b"ML\xefR\rStableHLO_v1.0\0vhlo\0" + called + b"\0"
    assert (reaches_out(node) is None) == (place == "none")
