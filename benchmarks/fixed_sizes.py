"""Files of fixed sizes against those of the official routes: fixed_sizes.py FOLDER, with PYTHONPATH=workflow:benchmarks.

Converts models of the corpus with `batch: 1` and every other size fixed, at the opset that the official route writes, and
makes the same models by torch.onnx.export(dynamo=True) and litert_torch.convert. Counts operators, and runs both files by
turns in one process: each pair of runs gives a ratio of their times. Writes docs/fixed-sizes.md; `--only NAME,...` measures some
again, and keeps what it knows of the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "docs" / "fixed-sizes.json", ROOT / "docs" / "fixed-sizes.md"
OPSET = 18  # of torch.onnx.export (2.13)
# (family, name, further parameters)
MODELS = (
    ("torchvision", "resnet18", {}),
    ("torchvision", "mobilenet_v3_small", {}),
    ("torchvision", "shufflenet_v2_x0_5", {}),
    ("torchvision", "efficientnet_b0", {}),
    ("torchvision", "convnext_tiny", {}),
    ("torchvision", "swin_t", {}),
    ("torchvision", "densenet121", {}),
    ("timm", "vit_tiny_patch16_224", {}),
    ("timm", "ghostnet_050", {}),
    ("timm", "mobilevitv2_050", {}),
    ("transformers", "bert", {"length": 32}),
    ("transformers", "gpt2", {"length": 32}),
)
ROUTES = ("onnx", "tflite")
_PAIRS, _WARM = 40, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--measure", help="the stem of one model that is converted: what a child of this script does")
    args = parser.parse_args()
    folder = args.folder.resolve()
    if args.measure:
        print(json.dumps(_measured(folder, args.measure)))
        return
    (folder / "models").mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    wanted = [entry for entry in MODELS if not args.only or entry[1] in args.only.split(",")]
    for stem in _converted(folder, wanted):
        command = [sys.executable, __file__, str(folder), "--measure", stem]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[stem] = json.loads(done.stdout.splitlines()[-1])
        print(stem, json.dumps(results[stem]), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        PAGE.write_text(_page(results))


def _converted(folder: Path, wanted: list[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """Write the models and convert all by one run of Snakemake; their stems."""
    from corpus.sources import FAMILIES

    jobs, stems = [], []
    for family, name, more in wanted:
        (model,) = FAMILIES[family](folder / "models", [name])
        stems.append(model.stem)
        for target in ROUTES:
            job = {
                "convert_from": f"models/{model.source}",
                "convert_to": f"converted/{model.stem}.{target}",
                "batch": 1,
            }
            job |= {"onnx_opset": OPSET} if target == "onnx" else {}
            jobs.append({**job, **model.parameters, **more})
    (folder / "jobs.yaml").write_text(yaml.safe_dump({"jobs": jobs}))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--cores",
        "1",
        "--keep-going",
    ]
    command += ["--configfile", "jobs.yaml", "--", *(job["convert_to"] for job in jobs)]
    subprocess.run(command, cwd=folder, check=False)
    return stems


def _measured(folder: Path, stem: str) -> dict[str, Any]:
    """By route: how many operators of each kind both files have, and the ratio of their times."""
    found: dict[str, Any] = {}
    for route in ROUTES:
        ours, theirs = folder / "converted" / f"{stem}.{route}", folder / "official" / f"{stem}.{route}"
        theirs.parent.mkdir(exist_ok=True)
        if not theirs.exists():
            _export(folder, stem, route, theirs)
        count, opened = (_onnx_operators, _onnx_run) if route == "onnx" else (_tflite_operators, _tflite_run)
        kinds = [dict(count(path).most_common()) for path in (ours, theirs)]
        runs = [opened(path) for path in (ours, theirs)]
        found[route] = {"ours": kinds[0], "theirs": kinds[1], **_paired(*runs)}
    return found


def _export(folder: Path, stem: str, route: str, target: Path) -> None:
    """The official routes, as their pages show them."""
    import torch
    from corpus.sources import Model, load

    from converter.hub.hub import Hub
    from converter.torch.program.flat import to_tensors

    family, _, name = stem.partition("-")
    (source,) = (path for path in (folder / "models").glob(f"{stem}*") if path.suffix != ".json")
    network = load(Model(family, name, source.name), folder / "models")
    (hub,) = (path.parent for path in (folder / "intermediate").glob(f"{stem}-*/hub.json"))
    example = Hub.read(hub)
    tensors = to_tensors(example.reference()[0].inputs)
    named = {spec.name: tensor for spec, tensor in zip(example.inputs, tensors, strict=True)}
    args, kwargs = ((), named) if family == "transformers" else (tuple(tensors), {})
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if route == "onnx":
            torch.onnx.export(network, args, target, kwargs=kwargs, dynamo=True, external_data=False, verbose=False)
        else:
            import litert_torch

            litert_torch.convert(network, args or None, sample_kwargs=kwargs or None).export(str(target))


def _onnx_operators(path: Path) -> Counter[str]:
    """Nodes of all graphs but constants, of functions those within."""
    import onnx
    from onnx.inliner import inline_local_functions

    from converter.onnx.core.graphs import all_graphs

    model = inline_local_functions(onnx.load(path))
    kinds = Counter(node.op_type for graph in all_graphs(model.graph) for node in graph.node)
    del kinds["Constant"]
    return kinds


def _tflite_operators(path: Path) -> Counter[str]:
    from converter.tflite.flatbuffer import read, schema

    model = read(path.read_bytes())
    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    return Counter(codes[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators)


def _onnx_run(path: Path) -> Callable[[], object]:
    from converter.profiling.latency import onnxruntime_timer

    return onnxruntime_timer()(path, 1)[2]


def _tflite_run(path: Path) -> Callable[[], object]:
    from converter.profiling.latency import litert_timer

    return litert_timer()(path, 1)[2]


def _paired(ours: Callable[[], object], theirs: Callable[[], object]) -> dict[str, float]:
    """The median of the ratios of neighbouring runs, which take turns in who is first, and the medians of both in ms."""
    times: tuple[list[float], list[float]] = ([], [])
    for pair in range(_WARM + _PAIRS):
        for side in (0, 1) if pair % 2 else (1, 0):
            start = time.perf_counter()
            (ours, theirs)[side]()
            times[side].append(1000 * (time.perf_counter() - start))
    first, second = (np.array(entries[_WARM:]) for entries in times)
    ratio = statistics.median((first / second).tolist())
    return {
        "ratio": round(ratio, 3),
        "ours_ms": round(float(np.median(first)), 3),
        "theirs_ms": round(float(np.median(second)), 3),
    }


def _page(results: dict[str, Any]) -> str:
    lines = [_HEAD.format(opset=OPSET, pairs=_PAIRS)]
    for stem, entry in results.items():
        cells = [stem]
        for route in ROUTES:
            counts = [sum(entry[route][side].values()) for side in ("ours", "theirs")]
            cells += [*map(str, counts), f"{entry[route]['ours_ms']:.2f}", f"{entry[route]['ratio']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |\n")
    return "".join(lines)


_HEAD = """# Fixed sizes

Models of the [corpus](corpus.md) with `batch: 1` and all other sizes fixed, against the official routes
(torch.onnx.export(dynamo=True) and litert_torch.convert) on the same models. Operators are the nodes of the file, constants left
out; ONNX files are of opset {opset}, which the official route writes. Times: both files run by turns in one process with one
thread, {pairs} pairs, in CPU milliseconds, which other work on the machine changes little. The ratio is the median over the
pairs, below 1 where Converter's file is faster. Made by

    PYTHONPATH=workflow:benchmarks python benchmarks/fixed_sizes.py FOLDER

| model | ONNX operators | official | ms | ratio | TensorFlow Lite operators | official | ms | ratio |
|---|---|---|---|---|---|---|---|---|
"""


if __name__ == "__main__":
    main()
