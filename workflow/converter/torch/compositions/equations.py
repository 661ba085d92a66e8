"""Einsum of any form, by sums of two tensors with every axis written."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch

from converter.torch.compositions.table import composes

aten = torch.ops.aten


def _is_unusual(equation: str) -> bool:
    """An equation with an ellipsis, without a result, of one tensor or more than two, or with a letter twice in one term."""
    inputs, arrow, _ = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    return "..." in inputs or not arrow or len(terms) != 2 or any(len(set(term)) != len(term) for term in terms)


@composes(aten.einsum.default, when=lambda node: _is_unusual(str(node.args[0])))
def einsum(equation: str, operands: Sequence[torch.Tensor], *, path: Sequence[int] | None = None) -> torch.Tensor:
    """The same sum, one pair of tensors after the other, from the left."""
    if not _is_unusual(equation):
        return NotImplemented
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms, ellipsis = _without_ellipsis(inputs.split(","), operands)
    if not arrow:
        joined = "".join(terms)
        output = "..." + "".join(sorted(letter for letter in set(joined) - set(ellipsis) if joined.count(letter) == 1))
        output = output if ellipsis else output.removeprefix("...")
    output = output.replace("...", ellipsis)
    pairs = _without_ones([_distinct(term, x) for term, x in zip(terms, operands, strict=True)])
    while len(pairs) > 2:
        (left, a), (right, b), *rest = pairs
        later = set(output).union(*(term for term, _ in rest))
        kept = "".join(letter for letter in dict.fromkeys(left + right) if letter in later)
        pairs = [(kept, torch.einsum(f"{left},{right}->{kept}", a, b)), *rest]
    if len(pairs) == 1:
        return _summed(*pairs[0], output)
    return torch.einsum(f"{','.join(term for term, _ in pairs)}->{output}", *(x for _, x in pairs))


def _summed(term: str, x: torch.Tensor, output: str) -> torch.Tensor:
    """Of one tensor: its other axes summed, the rest in the order of the output."""
    axes = [axis for axis, letter in enumerate(term) if letter not in output]
    kept = [letter for letter in term if letter in output]
    x = x.sum(axes) if axes else x
    return x if kept == list(output) else x.permute([kept.index(letter) for letter in output])


def _without_ellipsis(terms: list[str], operands: Sequence[torch.Tensor]) -> tuple[list[str], str]:
    """The terms with a letter for each axis that an ellipsis stands for, and these letters, which end alike."""
    counts = [
        x.dim() - len(term.replace("...", "")) if "..." in term else 0 for term, x in zip(terms, operands, strict=True)
    ]
    free = [letter for letter in string.ascii_letters if letter not in "".join(terms)]
    letters = "".join(free[: max(counts)])
    named = [term.replace("...", letters[len(letters) - count :]) for term, count in zip(terms, counts, strict=True)]
    return named, letters


def _distinct(term: str, x: torch.Tensor) -> tuple[str, torch.Tensor]:
    """Diagonals in the place of letters that stand twice."""
    for letter in sorted(set(term)):
        while term.count(letter) > 1:
            first = term.index(letter)
            second = term.index(letter, first + 1)
            x = torch.diagonal(x, 0, first, second)
            term = "".join(term[axis] for axis in range(len(term)) if axis not in (first, second)) + letter
    return term, x


def _without_ones(pairs: list[tuple[str, torch.Tensor]]) -> list[tuple[str, torch.Tensor]]:
    """Without axes of size 1 whose letter has another size in another tensor: such axes broadcast."""
    result = []
    for place, (term, x) in enumerate(pairs):
        others = [pair for at, pair in enumerate(pairs) if at != place]
        for letter in term:
            axis = term.index(letter)
            wider = any(letter in other and y.shape[other.index(letter)] != 1 for other, y in others)
            if isinstance(x.shape[axis], int) and x.shape[axis] == 1 and wider:
                x, term = x.squeeze(axis), term[:axis] + term[axis + 1 :]
        result.append((term, x))
    return result
