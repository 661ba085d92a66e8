"""What each core ATen operator of torch becomes: docs/pytorch-operators.md, from cases that are run.

    PYTHONPATH=workflow:scripts:tests python benchmarks/operators.py [--only PATTERN] [--targets keras,tflite,onnx]
    PYTHONPATH=workflow:scripts:tests python benchmarks/operators.py --page

Each case of tests/operator_cases is a small model. It is exported, its operators are noted, and it is converted to each
target and verified; what came of it goes to docs/pytorch-operators.json, one case after the other. --page writes the page
of what is noted there. A test holds both to torch's list, the cases and the registry.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from converter.torch.compositions.table import COMPOSITIONS
from converter.torch.exact import division
from converter.torch_to_keras import families  # noqa: F401  (registers the converters)
from converter.torch_to_keras.folding import CREATED
from converter.torch_to_keras.refusals import REFUSALS
from converter.torch_to_keras.registry import converter_of

FOLDER = Path(__file__).resolve().parent.parent / "docs"
NOTES, PAGE = FOLDER / "pytorch-operators.json", FOLDER / "pytorch-operators.md"
_LONGEST = 240
aten = torch.ops.aten
TARGETS = ("onnx", "tflite", "keras")
Results = dict[str, dict]


def core_operators() -> list[torch._ops.OpOverload]:
    """torch's own list: operators of namespace aten that bear the tag `core`, by name."""
    found = []
    # Not dir(torch.ops.aten), which lists what the process has asked for so far.
    schemas = torch._C._jit_get_all_schemas()
    for name in sorted({s.name.removeprefix("aten::") for s in schemas if s.name.startswith("aten::")}):
        packet = getattr(torch.ops.aten, name, None)
        if isinstance(packet, torch._ops.OpOverloadPacket):
            overloads = [getattr(packet, overload) for overload in packet.overloads()]
            found += [operator for operator in overloads if torch.Tag.core in operator.tags]
    return found


def keras_way(operator: torch._ops.OpOverload) -> str:
    """How the operator becomes Keras: by a converter, by others, folded, or a sentence that says why not."""
    if operator in (aten._fft_r2c.default, aten._fft_c2r.default, aten._fft_c2c.default):
        return "pairs of reals, where sizes are known"
    if operator in REFUSALS:
        return REFUSALS[operator]
    if converter_of(operator) is not None:
        return "converter"
    if operator in division.BY_REMAINDER | division.RULES:
        return "exact rewriting"
    if operator in (aten.sym_size.int, aten.sym_numel.default):
        return "size, counted where it is not known"
    if operator in COMPOSITIONS:
        return "composition"
    if operator in CREATED:
        return "constant"
    if operator in torch.export.default_decompositions():
        return "decomposition of torch's"
    return ""


def cases() -> dict[str, object]:
    """All cases by "topic/name"."""
    from operator_cases import CASES

    return {f"{topic}/{name}": case for topic, cases in CASES.items() for name, case in cases.items()}


def operators_of(function: object, inputs: tuple[np.ndarray, ...]) -> list[str]:
    """Names of the core operators in the program, as exported and as torch decomposes it."""
    from special_hubs import Function

    module = function if isinstance(function, torch.nn.Module) else Function(function)
    program = torch.export.export(module.eval(), tuple(map(torch.from_numpy, inputs)))
    programs = [program, program.run_decompositions()]
    targets = {node.target for p in programs for node in p.graph.nodes if node.op == "call_function"}
    core = set(core_operators())
    return sorted(str(target) for target in targets if target in core)


def run_case(case: object, target: str) -> str:
    """ "verified", with the route where it is not the usual one; or the sentence of the refusal."""
    from special_hubs import export_to, program_hub

    from converter.errors import UnsupportedError

    fewer = tuple(np.concatenate([a[-1:], a[:1]]) if len(a) > 2 else a[-1:] for a in case.inputs)
    with tempfile.TemporaryDirectory() as folder:
        hub = program_hub(
            Path(folder) / "hub", case.function, {"typical": list(case.inputs), "fewer": list(fewer)}, shared_batch=True
        )
        try:
            result = export_to(hub, target, Path(folder))
        except UnsupportedError as error:
            return _shortened(re.sub(r" \([\w.]+ line \d+: \".*?\"\)", "", str(error)))
    if not result.verification.passed:
        return _shortened(f"wrong: {result.verification.message}")
    if target == "onnx":
        return f"verified, opset {result.opset}"
    return "verified" + (", by litert-torch" if "litert-torch" in result.route else "")


def _shortened(sentence: str) -> str:
    sentence = " ".join(sentence.split())
    return sentence if len(sentence) <= _LONGEST else sentence[: _LONGEST - 3] + "..."


def page(results: Results) -> str:
    """The page, from what is noted of the cases and from what torch and the registry say today."""
    lines = [
        "# Core ATen operators of PyTorch",
        "",
        "torch marks the operators that its decompositions leave with the tag `core`. For each: whether a small model that",
        "has it becomes an ONNX, a TensorFlow Lite and a Keras file that computes the same, and the cases that show it",
        "(`tests/operator_cases/`, run by `tests/test_operator_cases.py`). Models of other operators, such as `grid_sample` in",
        "three dimensions, `cummax` or `lstm`, are among the cases too; the second table has all of them.",
        "",
        "A sentence says why there is no way. A dash: no case, or not run.",
        "",
        f"Made with torch {torch.__version__.split('+')[0]} by `python benchmarks/operators.py` and `--page`.",
        "",
        "By: **converter** a function of `torch_to_keras/`, **composition** other operators that compute the same, in every",
        "target (`torch/compositions/`), **decomposition** torch's own, **constant** computed at conversion, **exact",
        "rewriting** in `torch/exact/`. A target is **yes** where a case with the operator is verified in it.",
        "",
        "| operator | onnx | tflite | keras | by | cases |",
        "|---|---|---|---|---|---|",
    ]
    for operator in core_operators():
        name = str(operator)
        having = {case: entry for case, entry in results.items() if name in entry["operators"]}
        way = keras_way(operator)
        if not having:
            lines.append(f"| `{name}` | – | – | – | {way} | |")
            continue
        cells = [_cell([entry.get(target, "") for entry in having.values()]) for target in TARGETS]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {way} | {_few(list(having))} |")
    lines += ["", "## Cases", "", "| case | onnx | tflite | keras |", "|---|---|---|---|"]
    lines += [
        f"| {case} | {' | '.join(entry.get(t, '–').replace('|', '/') for t in TARGETS)} |"
        for case, entry in sorted(results.items())
    ]
    return "\n".join(lines) + "\n"


def _cell(outcomes: list[str]) -> str:
    return "yes" if any(outcome.startswith("verified") for outcome in outcomes) else "no" if any(outcomes) else "–"


def _few(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def main() -> None:
    """Run cases, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a regular expression: cases whose name it matches")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--page", action="store_true", help="write the page of what is noted")
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(page(json.loads(NOTES.read_text())))
        return
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    known = cases()
    for name, case in known.items():
        if not re.search(options.only, name):
            continue
        entry: dict = {"operators": operators_of(case.function, case.inputs)}
        for target in filter(None, options.targets.split(",")):
            entry[target] = run_case(case, target)
            print(name, target, entry[target], flush=True)
        results = json.loads(NOTES.read_text()) if NOTES.exists() else {}
        results[name] = results.get(name, {}) | entry
        results = {case: results[case] for case in sorted(results) if case in known}
        NOTES.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
