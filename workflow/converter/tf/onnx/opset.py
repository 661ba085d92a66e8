"""Which opset a graph needs, from tf2onnx's own registry of handlers, before anything is converted."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["HIGHEST_OPSET", "LOWEST_OPSET", "has_handler", "lowest_opset"]

LOWEST_OPSET, HIGHEST_OPSET = 7, 18
"""tf2onnx 1.17 knows the IR version of opsets up to 18; below 7 broadcasting works differently and it is not tested."""

# Rewriters take these away where they make an identity matrix, so that their own handler's opset does not tell.
_REWRITTEN_PREFIXES = ("MatrixDiag",)


def lowest_opset(operators: Iterable[str]) -> tuple[int, list[str]]:
    """The lowest opset that has a handler for each TensorFlow operator, and the operators that need just this one.

    Operators without a handler at any opset are left out: a rewriter may replace them. It is a lower bound: a handler may
    still refuse what an operator's attributes say.
    """
    versions = _first_opsets()
    needs = {
        name: versions[name] for name in operators if name in versions and not name.startswith(_REWRITTEN_PREFIXES)
    }
    lowest = max([LOWEST_OPSET, *needs.values()])
    return lowest, sorted(name for name, opset in needs.items() if opset == lowest > LOWEST_OPSET)


def has_handler(operator: str) -> bool:
    """Whether tf2onnx knows a TensorFlow operator at any opset."""
    return operator in _first_opsets()


def _first_opsets() -> dict[str, int]:
    from tf2onnx.handler import tf_op

    import converter.tf.onnx.handlers  # noqa: F401  (registers tf2onnx's handlers and ours)

    first: dict[str, int] = {}
    for opset, handlers in enumerate(tf_op.get_opsets()[""]):
        for name in handlers:
            first.setdefault(name, opset)
    return first
