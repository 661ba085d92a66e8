"""The first operator whose result leaves the source's.

A tensor is sound if the file has an equal one, or if something computed from it is found there: exporters fold and fuse
operators, whose results in between the file never has. Of the tensors that are neither, the first ones in the file are
paired with those of the source that they stand for. The fault lies between there and the last sound tensors: in one
operator, or in the few that the exporter made one of.
"""

from __future__ import annotations

from collections.abc import Sequence

from converter.divergence.comparison import Comparison, Pair, Side
from converter.divergence.computation import Operator

__all__ = ["doubtful_tensors", "is_moving", "locate", "unknown"]

_LEAST_SIMILARITY = 0.5
_WINDOW = 48  # tensors, from the first doubtful one on, among which counterparts are looked for
# They move values and change none, so that they are named only where nothing else is in question.
_PASSING_ON = frozenset(
    {
        *("identity", "alias", "detach", "clone", "contiguous", "dropout", "stopgradient", "getitem"),
        *("tensorlistfromtensor", "tensorliststack", "tensorlistreserve"),
    }
)
_MOVING = _PASSING_ON | {
    *("to", "_to_copy", "cast", "reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "expanddims"),
    *("expand", "expand_as", "transpose", "permute", "movedim", "t", "pack", "pad", "padv2", "mirrorpad"),
}
# What exporters fold into the weights of the operator before.
_FOLDED = frozenset(
    {
        *(
            "batch_norm",
            "_native_batch_norm_legit_no_training",
            "fusedbatchnorm",
            "fusedbatchnormv2",
            "fusedbatchnormv3",
        ),
        *("biasadd", "add", "addv2", "mul", "sub", "div", "realdiv"),
    }
)
_TAKING_A_PART = frozenset(
    {
        *("select", "slice", "narrow", "index", "index_select", "gather", "gathernd", "gatherv2", "getitem"),
        *(
            "strided_slice",
            "stridedslice",
            "split",
            "splitv",
            "split_v",
            "split_with_sizes",
            "chunk",
            "unbind",
            "unpack",
        ),
    }
)


def locate(comparison: Comparison) -> dict:
    """What the report says (schema: configs/report.schema.json, first_divergence)."""
    source, target = comparison.source, comparison.target
    doubtful, wrong_there = doubtful_tensors(comparison)
    pair = _first_pair(comparison, doubtful, wrong_there)
    if pair is None:
        return _outputs_differ(comparison)
    last = _with_folded(comparison, pair, doubtful, wrong_there)
    group = _group(source, doubtful, last)
    computing = [operator for operator in group if not is_moving(operator)] or group[:1]
    named, last_named = computing[0], computing[-1]
    figures = comparison.figures([pair])[pair.source]
    special = figures["max_abs_diff"] == float("inf")
    return {
        **named.described(),
        "tensor": pair.source,
        "until": last_named.described() if last_named is not named else None,
        "group": [operator.described() for operator in group if operator in computing or not _passes_on(operator)],
        "target_operator": target.operator_of(pair.target),
        "target_tensor": pair.target,
        **(figures | {"max_abs_diff": None} if special else figures),
        "reason": "it has NaN or infinite values in other places than the source" if special else None,
    }


def doubtful_tensors(comparison: Comparison) -> tuple[list[str], list[str]]:
    """The source's and the file's tensors that are not sound, in order of execution."""
    there = {pair.target for pair in comparison.equal.values()}
    return _doubtful(comparison.source, set(comparison.equal)), _doubtful(comparison.target, there)


def is_moving(operator: Operator) -> bool:
    """Whether the operator only moves values (transposes, reshapes, padding), without computing any."""
    return _word(operator) in _MOVING


def _passes_on(operator: Operator) -> bool:
    return _word(operator) in _PASSING_ON


def _word(operator: Operator) -> str:
    """The bare operator: "conv2d" of "aten.conv2d" and "Conv2D"."""
    return operator.kind.rpartition(".")[2].lower()


def _doubtful(side: Side, equal: set[str]) -> list[str]:
    """The tensors that are not sound, in order of execution."""
    vouched: set[str] = set()
    by_all: dict[str, bool] = {}  # whether each reader of a tensor has a sound result
    for operator in reversed(side.operators):
        for name in operator.outputs:
            if by_all.get(name) or (name in equal and side.sketches[name].is_telling):
                vouched.add(name)
        speaks = any(name in vouched for name in operator.outputs)
        for name in operator.inputs:
            by_all[name] = by_all.get(name, True) and speaks
            if speaks and not _takes_a_part(operator):
                vouched.add(name)
    return [name for name in side.names if name in side.maker and name not in equal | vouched]


def _takes_a_part(operator: Operator) -> bool:
    """Such an operator's result being right says nothing of the rest of its input."""
    return _word(operator) in _TAKING_A_PART


def _first_pair(comparison: Comparison, doubtful: Sequence[str], wrong_there: Sequence[str]) -> Pair | None:
    """The first doubtful tensor of the file that one of the source's stands for; else outputs, which are known to."""
    source, target = comparison.source, comparison.target
    known = [name for name in doubtful if name in source.sketches]
    there = [name for name in wrong_there if name in target.sketches]
    for place, other in enumerate(there[:_WINDOW]):
        pair = comparison.counterpart(known[:_WINDOW], [other], _LEAST_SIMILARITY)
        if pair is not None:
            # An operator may be several in the file, such as a product and a sum: its result is the most similar of theirs.
            return comparison.counterpart([pair.source], there[place : place + _WINDOW], _LEAST_SIMILARITY)
    for name, other in zip(source.outputs, target.outputs, strict=True):
        if name in known and other in there:
            sketch, counterpart = source.sketches[name], target.sketches[other]
            if sketch.size == counterpart.size:
                return Pair(name, other, sketch.similarity(counterpart)[1])
    return None


def _with_folded(comparison: Comparison, pair: Pair, doubtful: Sequence[str], wrong_there: Sequence[str]) -> str:
    """The last of the tensors behind `pair.source` that the file has no other counterpart of: it was folded into this one.

    Wrong values alone do not tell a convolution from the normalization behind it.
    """
    source, target = comparison.source, comparison.target
    later = [name for name in wrong_there if name in target.sketches and name != pair.target][:_WINDOW]
    last = pair.source
    while True:
        readers = [operator for operator in source.operators if last in operator.inputs]
        if len(readers) != 1 or _word(readers[0]) not in _FOLDED or len(readers[0].inputs) != 1:
            return last
        (result,) = readers[0].outputs
        if result not in doubtful or result not in source.sketches:
            return last
        sketch = source.sketches[result]
        same_size = [other for other in [pair.target, *later] if target.sketches[other].size == sketch.size]
        if (
            not same_size
            or max(same_size, key=lambda other: sketch.similarity(target.sketches[other])[0]) != pair.target
        ):
            return last
        last = result


def _group(source: Side, doubtful: Sequence[str], last: str) -> list[Operator]:
    """The operators between the sound tensors and `last`, in order of execution."""
    open_names, needed = set(doubtful), {last}
    group = []
    for operator in reversed(source.operators):
        if needed & set(operator.outputs):
            group.append(operator)
            needed |= {name for name in operator.inputs if name in open_names}
    return group[::-1]


def unknown(reason: str) -> dict:
    """The entry where no operator can be named."""
    names = ("operator", "layer", "source_line", "tensor", "until", "target_operator", "target_tensor")
    figures = ("max_abs_diff", "max_abs_reference", "cosine")
    return {**dict.fromkeys(names), "group": [], **dict.fromkeys(figures), "reason": reason}


def _outputs_differ(comparison: Comparison) -> dict:
    """Every tensor of the source is in the file: what is wrong are the outputs, their order or that of their axes."""
    source, target = comparison.source, comparison.target
    for name, other in zip(source.outputs, target.outputs, strict=True):
        pair = comparison.equal.get(name)
        if name in source.maker and (pair is None or pair.target != other or not pair.arrangement.is_plain):
            entry = unknown("the values within agree: the output has them in another order, or is another tensor")
            described = source.maker[name].described()
            return entry | described | {"tensor": name, "target_tensor": other, "group": [described]}
    return unknown("every tensor that could be compared agrees on the sample on which the outputs differ most")
