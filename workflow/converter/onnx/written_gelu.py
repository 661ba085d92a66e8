"""Gelu that an exporter has written out as several operators, made one operator again.

x * 0.5 * (1 + erf(x / sqrt 2)), and 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))), the factors in any order. A factor
that is off by more than float32 rounds is another function, and stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from onnx import ModelProto, NodeProto, helper

from converter.onnx.core.graphs import STANDARD, Scope, inner_graphs, replace_fields
from converter.onnx.simplify import remove_unused

__all__ = ["gather_gelus"]

_MICROSOFT = "com.microsoft"
_CLOSE = 2e-6  # relative: exporters write 1.4142 with seven digits and more


def gather_gelus(model: ModelProto) -> int:
    """In the main graph, in place; how many. What nothing reads any more is taken away."""
    if any(inner_graphs(node) for node in model.graph.node):  # which may read what is taken away
        return 0
    finding = _Finding(model)
    forms: dict[str, tuple[str, str]] = {}
    for node in model.graph.node:
        if node.op_type in ("Erf", "Tanh") and node.domain in STANDARD:
            forms |= finding.form_of(node)
    if not forms:
        return 0
    nodes = []
    for node in model.graph.node:
        form = forms.get(node.output[0])
        if form is not None:
            node = helper.make_node(form[0], [form[1]], [node.output[0]], name=node.name, domain=_MICROSOFT)
        nodes.append(node)
    replace_fields(model.graph.node, nodes)
    if not any(entry.domain == _MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    remove_unused(model)
    return len(forms)


class _Finding:
    def __init__(self, model: ModelProto) -> None:
        self._scope = Scope(model.graph)
        plain = [node for node in model.graph.node if node.domain in STANDARD]
        self._makers = {name: node for node in plain for name in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in plain:
            for name in set(node.input):
                self._readers.setdefault(name, []).append(node)

    def form_of(self, function: NodeProto) -> dict[str, tuple[str, str]]:
        """By the name of the result, onnxruntime's operator and its input, of each Gelu around this function."""
        found: dict[str, tuple[str, str]] = {}
        for x in self._inputs(function):
            for more in self._readers.get(function.output[0], []):
                if not self._is_one_more(more):
                    continue
                bracket = more.output[0]
                for result in self._products_of(bracket):
                    number, factors = self._product(result, {x, bracket})
                    if sorted(factors) == sorted((x, bracket)) and _close(number, 0.5):
                        found[result] = ("Gelu" if function.op_type == "Erf" else "FastGelu", x)
        return found

    def _inputs(self, function: NodeProto) -> Iterator[str]:
        """What the function may be of in a Gelu."""
        argument = function.input[0]
        if function.op_type == "Erf":
            node = self._maker(argument, "Mul", "Div")
            for x in node.input if node is not None else ():
                if self._product(argument, {x})[1] == [x] and _close(self._product(argument, {x})[0], math.sqrt(0.5)):
                    yield x
            return
        number, factors = self._product(argument, set())
        node = self._maker(factors[0], "Add") if len(factors) == 1 and _close(number, math.sqrt(2 / math.pi)) else None
        for x, other in (node.input, node.input[::-1]) if node is not None else ():
            if self._is_cube(other, x):
                yield x

    def _products_of(self, name: str) -> Iterator[str]:
        """Products with that value as a factor, and products with those."""
        for node in self._readers.get(name, []):
            if node.op_type in ("Mul", "Div"):
                yield node.output[0]
                for outer in self._readers.get(node.output[0], []):
                    if outer.op_type in ("Mul", "Div"):
                        yield outer.output[0]

    def _number(self, name: str) -> float | None:
        array = self._scope.constant(name)
        if array is None or array.size != 1 or array.dtype != np.float32:
            return None
        return float(array.reshape(-1)[0])

    def _maker(self, name: str, *kinds: str) -> NodeProto | None:
        node = self._makers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def _product(self, name: str, whole: set[str]) -> tuple[float, list[str]]:
        """The number and the values that are multiplied with each other there. whole: values that are not taken apart."""
        node = self._maker(name, "Mul", "Div") if name not in whole else None
        if node is None:
            return 1.0, [name]
        if node.op_type == "Div":
            divisor = self._number(node.input[1])
            if not divisor:
                return 1.0, [name]
            number, factors = self._product(node.input[0], whole)
            return number / divisor, factors
        total, values = 1.0, []
        for entry in node.input:
            known = self._number(entry)
            number, factors = (known, []) if known is not None else self._product(entry, whole)
            total, values = total * number, [*values, *factors]
        return total, values

    def _is_one_more(self, node: NodeProto) -> bool:
        numbers = [self._number(name) for name in node.input]
        return node.op_type == "Add" and any(number is not None and _close(number, 1.0) for number in numbers)

    def _is_cube(self, name: str, x: str) -> bool:
        number, factors = self._product(name, {x})
        powers = [self._power(factor, x) for factor in factors]
        return _close(number, 0.044715) and all(powers) and sum(power or 0 for power in powers) == 3

    def _power(self, name: str, x: str) -> float | None:
        if name == x:
            return 1.0
        node = self._maker(name, "Pow")
        exponent = self._scope.constant(node.input[1]) if node is not None and node.input[0] == x else None
        return float(exponent.reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None


def _close(number: float, wanted: float) -> bool:
    return abs(number - wanted) <= _CLOSE * abs(wanted)
