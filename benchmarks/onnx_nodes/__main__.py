"""make onnx-nodes: PYTHONPATH=workflow:benchmarks:scripts python -m onnx_nodes [--only TEXT ...] [--targets tflite,keras].

Converts every node test of the `onnx` package that docs/onnx-nodes.json (of this machine) has not yet, and
makes docs/onnx-operators.md of it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from converter.running.fork_server import KINDS
from onnx_nodes.cases import Case, all_cases, cannot_be_written, cannot_hold, other_opsets
from onnx_nodes.convert import OPSETS, TARGETS, convert
from onnx_nodes.page import write_page

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "onnx-nodes.json"
_SECONDS = 120
_SAVED_EACH = 50
_ONCE = (
    *KINDS["torch+tensorflow"],
    *("onnxruntime", "import_onnx", "ai_edge_litert.interpreter", "converter.onnx.export", "converter.onnx.hub_writer"),
    *("converter.onnx_to_torch.lower", "converter.torch.tflite.export", "converter.torch.keras.export"),
    *("converter.torch.tflite.keras_route", "converter.torch_to_keras.build", "converter.tf.tflite.export"),
    *("converter.evidence.torch_gradients", "converter.evidence.coverage"),
)
_FORK = multiprocessing.get_context("fork")


def main() -> None:
    parser = argparse.ArgumentParser(prog="onnx_nodes", description=__doc__)
    parser.add_argument("--only", nargs="*", default=None, help="parts of cases' names")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true", help="also what the results have already")
    args = parser.parse_args()
    for module in _ONCE:  # for all cases, which are forked from here
        importlib.import_module(module)
    results: dict[str, Any] = json.loads(args.results.read_text()) if args.results.exists() else {}
    tasks = []
    for case in all_cases():
        if args.only is not None and not any(text in case.name for text in args.only):
            continue
        entry = results.setdefault(case.name, {})
        entry |= {"operator": case.operator, "cannot": _impossible(case)}
        wanted = [target for target in args.targets if entry["cannot"][target] is None]
        tasks += [(case, target) for target in wanted if args.again or target not in entry]
    for done, ((name, target), result) in enumerate(_run(tasks, os.cpu_count() or 1)):
        results[name][target] = result
        if done % _SAVED_EACH == 0:  # a run that is ended goes on where it was
            args.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        if result["outcome"] not in ("verified", "no reference"):
            print(name, target, result["outcome"], (result["reason"] or "")[:300], flush=True)
    args.results.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    if args.results == RESULTS:
        write_page(results)


def _impossible(case: Case) -> dict[str, str | None]:
    """By target why no file can be this case."""
    reasons = dict.fromkeys(TARGETS, cannot_hold(case))
    opsets = other_opsets(case)
    for position, target in enumerate(OPSETS):
        reasons[target] = cannot_be_written(case, opsets[position]) if opsets else None
    return reasons


def _run(tasks: list[tuple[Case, str]], at_once: int) -> Any:
    waiting, running = list(reversed(tasks)), {}
    while waiting or running:
        while waiting and len(running) < at_once:
            case, target = waiting.pop()
            here, there = _FORK.Pipe()
            process = _FORK.Process(target=_work, args=(there, case, target))
            process.start()
            there.close()
            running[here] = (case.name, target, process, time.monotonic() + _SECONDS)
        ready = wait(list(running), timeout=1)
        for here, (name, target, process, end) in list(running.items()):
            if here in ready:
                try:
                    result = here.recv()
                except EOFError:
                    result = {"outcome": "error", "reason": "the process ended"}
            elif time.monotonic() > end:
                result = {"outcome": "error", "reason": f"took more than {_SECONDS} s"}
            else:
                continue
            process.kill()
            process.join()
            del running[here]
            yield (name, target), result


def _work(answer: Connection, case: Case, target: str) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)  # what TensorFlow prints for each case
    answer.send(convert(case, target))


if __name__ == "__main__":
    main()
