"""The operators and intermediate values of a PyTorch hub's exported program."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from converter.divergence.computation import Computation, Operator
from converter.hub.hub import Hub
from converter.torch.program.flat import to_arrays, to_tensors
from converter.torch.program.hub_program import read_program

__all__ = ["ProgramComputation", "source_line"]

_SIZES = re.compile(
    r"^(sym_size|sym_numel|sym_stride|(zeros|ones|empty|full|rand|randn)_like|new_(zeros|ones|empty|full))$"
)
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in [^\n]*\n[ \t]*([^\n]*)')
# Frames that say how torch works, not where the model does: its own package, and what torch.export makes up.
_OF_TORCH = re.compile(r"(site|dist)-packages/torch/|^torch/|^<")


class ProgramComputation(Computation):
    """Tensors are named as the program's nodes. Branches and loops of torch.cond and its like are one operator each."""

    def __init__(self, hub: Hub) -> None:
        module = read_program(hub).module(check_guards=False)
        self._interpreter = torch.fx.Interpreter(module)
        nodes = list(module.graph.nodes)
        self.inputs = [node.name for node in nodes if node.op == "placeholder"]
        self.operators = []
        latest: dict[torch.fx.Node, str] = {}  # what has been written into a tensor, by the tensor
        for node in nodes:
            sources = tuple(dict.fromkeys(latest.get(x, x.name) for x in node.all_input_nodes))
            if node.op == "output":
                leaves = torch.utils._pytree.tree_leaves(node.args)
                self.outputs = [latest.get(x, x.name) for x in leaves if isinstance(x, torch.fx.Node)]
            elif node.op in ("call_function", "call_method", "call_module"):
                kind = _kind(node)
                sizes = _SIZES.match(kind.rpartition(".")[2]) is not None
                line = source_line(node.meta.get("stack_trace"))
                self.operators.append(Operator(kind, sources, (node.name,), _layer(node), line, sizes))
                for written in _written(node):
                    latest[written] = node.name

    def values(self, arrays: Sequence[np.ndarray], names: Collection[str]) -> Iterator[tuple[str, np.ndarray]]:
        """See `Computation.values`; the program is run node by node."""
        interpreter, wanted = self._interpreter, set(names)
        interpreter.env = {}
        interpreter.args_iter = iter(interpreter.graph.process_inputs(*to_tensors(arrays)))
        for node in interpreter.graph.nodes:
            if node.op == "output":
                break
            with torch.no_grad():
                value = interpreter.env[node] = interpreter.run_node(node)
            if node.name in wanted and isinstance(value, torch.Tensor) and not value.is_quantized:
                yield node.name, np.array(to_arrays([value])[0])  # a copy, since later operators may write into it
            for unused in interpreter.user_to_last_uses.get(node, []):
                interpreter.env.pop(unused, None)
        interpreter.env = {}


def _kind(node: torch.fx.Node) -> str:
    """The name of the operator that the node calls, such as "aten.conv2d"."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.name.replace("::", ".")
    return getattr(node.target, "__name__", str(node.target))


def _layer(node: torch.fx.Node) -> str | None:
    """The path of the innermost module; None where the model's own forward calls the operator."""
    modules = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(modules[-1][0]) if modules and isinstance(modules[-1], tuple) else ""
    return path if re.fullmatch(r"[\w.]+", path) and not path.startswith("_empty") else None


def _written(node: torch.fx.Node) -> list[torch.fx.Node]:
    """The tensors that an operator changes in place: its argument, and what that is a view of."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable or not node.args or not isinstance(node.args[0], torch.fx.Node):
        return []
    written = [node.args[0]]
    while True:
        schema = getattr(written[-1].target, "_schema", None)
        returns = list(schema.returns) if schema is not None else []
        if not (returns and returns[0].alias_info and written[-1].args):
            return written
        written.append(written[-1].args[0])


def source_line(trace: str | None) -> str | None:
    """ "net.py:12: x = self.conv(x)": the innermost frame that is not torch's own; None where there is none."""
    for file, line, code in reversed(_FRAME.findall(trace or "")):
        if not _OF_TORCH.search(file):
            return f"{file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{line}: {code.strip()}".rstrip(": ")
    return None
