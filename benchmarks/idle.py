"""What a run costs that has little to do: 1,000 models with all targets present, and one target out of 5,000 models."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

from measure import measure

__all__ = ["section"]

ROOT = Path(__file__).resolve().parents[1]
# As many rules and files for each target as Converter has: import, export, publish.
_TRIVIAL = """
MODELS = [line.strip() for line in open("models.txt")]
rule all:
    input: expand("converted/{model}.{extension}", model=MODELS, extension=("onnx", "tflite"))
rule read:
    input: "models/{model}.pbtxt"
    output: directory("intermediate/{model}")
    params: version="1"
    shell: "mkdir -p {output}"
rule write:
    input: "intermediate/{model}"
    output: staged=temp("intermediate/staged/{model}.{extension}"), report="reports/{model}.{extension}.json"
    params: version="1"
    shell: "touch {output}"
rule publish:
    input: staged="intermediate/staged/{model}.{extension}", report="reports/{model}.{extension}.json"
    output: "converted/{model}.{extension}"
    params: version="1"
    shell: "touch {output}"
"""
_GRAPH = """node {{ name: "x" op: "Placeholder" attr {{ key: "dtype" value {{ type: DT_FLOAT }} }}
 attr {{ key: "shape" value {{ shape {{ dim {{ size: -1 }} dim {{ size: {size} }} }} }} }} }}
node {{ name: "y" op: "Tanh" input: "x" attr {{ key: "T" value {{ type: DT_FLOAT }} }} }}
"""


def section(bench) -> None:  # noqa: ANN001 (bench.Bench, which imports this module)
    _nothing_to_do(bench, 1000)
    _one_of_many(bench, 5000)


def _project(bench, name: str, count: int) -> Path:  # noqa: ANN001
    folder = bench.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    for index in range(count):
        (folder / "models" / f"m{index}.pbtxt").write_text(_GRAPH.format(size=2 + index % 7))
    (folder / "models.txt").write_text("".join(f"m{index}\n" for index in range(count)))
    return folder


def _nothing_to_do(bench, count: int) -> None:  # noqa: ANN001
    """What the runs that made everything leave behind is written here: making it takes half an hour and is not measured.

    Snakemake records of each output what it was made with; `--touch` writes those records without running anything, for
    files that exist, so the comparison is of the same work on both sides.
    """
    trivial, ours = _project(bench, "idle-trivial", count), _project(bench, "idle", count)
    (trivial / "Snakefile").write_text(_TRIVIAL)
    targets = [f"converted/m{index}.{extension}" for index in range(count) for extension in ("onnx", "tflite")]
    jobs = [{"convert_from": f"models/m{index}.pbtxt", "convert_to": target} for index, target in _indexed(targets)]
    (ours / "config.json").write_text(json.dumps({"jobs": jobs}))
    program = [sys.executable, "-m", "snakemake", "--cores", "2", "--quiet", "all"]
    converter = [*program, "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.json"]
    sources = [f"models/m{index}.pbtxt" for index in range(count)]
    _present(ours, _hubs(ours, sources), targets)
    _present(trivial, [f"intermediate/m{index}" for index in range(count)], targets)
    for command, folder in ((converter, ours), (program, trivial)):
        cost = measure([*command, "--touch"], folder, cap_mb=bench.cap_mb, environment=bench.environment)
        assert cost.status == 0, (folder / "output.txt").read_text()[-2000:]
    for _ in range(bench.repeats):
        for who, command, folder in (("snakemake", program, trivial), ("converter", converter, ours)):
            began = time.time()
            cost = measure(command, folder, cap_mb=bench.cap_mb, environment=bench.environment)
            assert cost.status == 0, (folder / "output.txt").read_text()[-2000:]
            assert max(os.stat(folder / target).st_mtime for target in targets) < began, "something was made"
            bench.add(case=f"{count} models x 2, nothing to do", who=who, **asdict(cost))


def _indexed(targets: list[str]) -> list[tuple[int, str]]:
    return [(position // 2, target) for position, target in enumerate(targets)]


def _hubs(folder: Path, sources: list[str]) -> list[str]:
    """The folders of the imports, by the planner itself."""
    sys.path.insert(0, str(ROOT / "workflow"))
    from converter.planning.planner import ImportPlan
    from converter.planning.source_files import source_sha256, source_stat

    hubs = []
    for source in sources:
        hub = f"intermediate/{ImportPlan(source, 'protobuf', {}).key}"
        path = folder / source
        recorded = {"source": {"sha256": source_sha256(path), "stat": source_stat(path)}}
        (folder / hub).mkdir(parents=True)
        (folder / hub / "hub.json").write_text(json.dumps(recorded))
        hubs.append(hub)
    return hubs


def _present(folder: Path, hubs: list[str], targets: list[str]) -> None:
    for name in ("converted", "reports"):
        (folder / name).mkdir()
    for hub in hubs:
        (folder / hub).mkdir(parents=True, exist_ok=True)
    for target in targets:
        (folder / target.replace("converted/", "reports/")).with_name(f"{Path(target).name}.json").write_text("{}")
        (folder / target).write_text("")


def _one_of_many(bench, count: int) -> None:  # noqa: ANN001
    """One named target out of `count` models: the planning alone (--dry-run), and all of it but the conversion's steps."""
    folder = _project(bench, "idle-many", count)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "converted/m7.onnx"]
    for _ in range(bench.repeats):
        cost = measure([*command, "--dry-run"], folder, cap_mb=bench.cap_mb, environment=bench.environment)
        assert cost.status == 0, (folder / "output.txt").read_text()[-2000:]
        bench.add(case=f"1 target of {count} models, planned", who="converter", **asdict(cost))
