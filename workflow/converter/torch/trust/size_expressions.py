"""Expressions of symbolic sizes in a torch.export program, which torch gives to sympy as text: sympy evaluates that as Python.

torch 2.13 writes them as sympy.srepr does, "Add(Mul(Integer(2), Symbol('s77', integer=True)), Integer(1))"; older releases
wrote "2*s77 + 1". Python's own parser tells what is in the text: all that is not a number, a name, or a call of a function of
sizes by its name is refused, since names of builtin functions are known to sympy too ("(exec)(...)").
"""

from __future__ import annotations

import ast
import builtins
import re

__all__ = ["is_size_expression"]

_FUNCTIONS = {
    *("Add", "Mul", "Pow", "Integer", "Float", "Rational", "Max", "Min", "Abs", "Mod", "floor", "ceiling"),
    *("Equality", "Unequality", "GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan"),
    *("Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not"),
    # torch.utils._sympy.functions, those that its deserializer knows
    *("FloorDiv", "CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv", "PythonMod", "ModularIndexing", "Where"),
    *("PowByNatural", "FloatPow", "LShift", "RShift", "ToFloat", "TruncToInt", "TruncToFloat", "FloorToInt"),
    *("CeilToInt", "RoundToInt", "RoundDecimal", "Identity", "IsNonOverlappingAndDenseIndicator"),
}
# The only calls with texts and keywords. Each stands for a name or a number in what follows.
_SYMBOL = re.compile(r"\bSymbol\('([A-Za-z_][A-Za-z0-9_]*)'(?:, [a-z_]+=(?:True|False))*\)")
_FLOAT = re.compile(r"\bFloat\('([-+]?[0-9.]+(?:e[-+]?[0-9]{1,3})?)', precision=[0-9]{1,3}\)")
_TEXT = re.compile(r"[A-Za-z0-9_ +\-*/%(),.<>=!&|~]*")
_HUGE_NUMBER = re.compile(r"[0-9.]e[-+]?[0-9]{4}", re.IGNORECASE)
_NODES = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call),
    *(ast.operator, ast.unaryop, ast.cmpop),
)
# Numbers to the power of numbers are computed at once, however long the result would be.
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift"}
_LARGEST_EXPONENT = 64


def is_size_expression(text: str) -> bool:
    """Whether the text consists of numbers, names of sizes, operators and functions of sizes, and is quickly evaluated."""
    plain = _FLOAT.sub(r"(\1)", _SYMBOL.sub(r"\1", text))
    if not _TEXT.fullmatch(plain) or _HUGE_NUMBER.search(plain):
        return False
    try:
        tree = ast.parse(plain.strip(), mode="eval")
        return all(_is_allowed(node) for node in ast.walk(tree))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: a number of too many digits
        return False


def _is_allowed(node: ast.AST) -> bool:
    if not isinstance(node, _NODES):
        return False
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.Name):
        return "__" not in node.id and (node.id in ("True", "False") or not hasattr(builtins, node.id))
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        return named and not node.keywords and (node.func.id not in _POWERS or _is_small_power(node.args))
    return not isinstance(getattr(node, "op", None), ast.Pow | ast.LShift) or _is_small_power([node.left, node.right])


def _is_small_power(operands: list[ast.expr]) -> bool:
    base, exponent = operands if len(operands) == 2 else (None, None)
    if base is None:
        return False
    if _symbols(exponent):
        return True
    numbers = _numbers(exponent)
    return len(numbers) == 1 and abs(numbers[0]) <= _LARGEST_EXPONENT and (_symbols(base) or len(_numbers(base)) == 1)


def _symbols(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Name) and part.id not in _FUNCTIONS for part in ast.walk(node))


def _numbers(node: ast.expr) -> list[int | float]:
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
