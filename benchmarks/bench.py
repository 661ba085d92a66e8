"""Converter against what a user would write today: bench.py [SECTION...] [--repeats N] [--cap GB]   (make bench)

Each section measures both sides in turn and stores what came out in docs/benchmark.json as it goes; docs/benchmark.md
and docs/benchmark.svg are made from that file (section `page`). Ours is `snakemake converted/...` in an empty folder
with the sources in models/, verification included; theirs is one process for each file (official.py), not verified.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import clean
import idle
import page
from measure import Cost, measure
from official import commands

ROOT = Path(__file__).resolve().parents[1]
APPLICATIONS = ("MobileNet", "MobileNetV2", "NASNetMobile", "DenseNet121", "InceptionV3", "ResNet50", "VGG16")
CLASSIFIERS = ("squeezenet1_0", "shufflenet_v2_x1_0", "googlenet", "resnet18", "alexnet")
SHAPE = "1,3,224,224"
SIZES = ("0.1", "1", "10", "100", "1000")
COUNTS = (1, 10, 100, 1000)
_KEPT = 2_500  # MB that are left to everybody else on the machine


class Bench:
    """Where it happens, and what has been measured: {section: {"date", "rows": [{"case", "who", cost...}]}}."""

    def __init__(
        self, folder: Path, results: Path, repeats: int, cap_mb: int, every: int, most: int, only: str | None
    ) -> None:
        self.folder, self.results = folder.resolve(), results
        self.repeats, self.cap_mb, self.every = repeats, cap_mb, every
        self.most, self.only = most, only
        self.stored: dict = json.loads(results.read_text()) if results.exists() else {}
        self.environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}

    def begin(self, section: str) -> None:
        rows = self.stored.get(section, {}).get("rows", []) if self.only else []
        kept = [row for row in rows if row.get("who") not in (None, self.only)]
        self.section = self.stored[section] = {"date": time.strftime("%Y-%m-%d %H:%M"), "rows": kept}

    def measures(self, who: str) -> bool:
        return self.only in (None, who)

    def add(self, **row: object) -> None:
        self.section["rows"].append(row)
        self.results.write_text(json.dumps(self.stored, indent=1) + "\n")
        print(row, flush=True)

    def official(self, source: Path, target: str, *, sequential: bool = False, shape: str = SHAPE) -> Cost:
        """One conversion; the file stays in {folder}/official."""
        out = self.folder / "official"
        out.mkdir(exist_ok=True)
        costs = [
            measure(command, out, cap_mb=self._cap(), environment=self.environment)
            for command in commands(source, out / target, shape, sequential=sequential)
        ]
        cost = add_up(costs)
        if cost.status and not cost.killed:
            print((out / "output.txt").read_text(errors="replace")[-2000:], file=sys.stderr)
        return cost

    def ours(self, sources: list[Path], targets: list[str], *, parameters: dict | None = None) -> tuple[Cost, int]:
        """One run in an empty folder, and how many of the targets were verified; the files stay in {folder}/converted."""
        project = self.folder / "project"
        shutil.rmtree(project, ignore_errors=True)
        (project / "models").mkdir(parents=True)
        for source in sources:
            os.link(source, project / "models" / source.name)
        files = [f"converted/{target}" for target in targets]
        config = project / "config.json"
        config.write_text(json.dumps({"models": parameters or {}}))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *files]
        cost = measure(
            [*command, "--configfile", str(config)], project, cap_mb=self._cap(), environment=self.environment
        )
        reports = [json.loads(path.read_text()) for path in (project / "reports").rglob("*.json")]
        verified = sum(report.get("status") == "verified" for report in reports)
        if verified < len(targets):
            print((project / "output.txt").read_text(errors="replace")[-2000:], file=sys.stderr)
        (self.folder / "converted").mkdir(exist_ok=True)
        for target in targets:
            if (project / "converted" / target).exists():
                shutil.move(project / "converted" / target, self.folder / "converted" / target)
        return cost, verified

    def _cap(self) -> int:
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(int(line.split()[1]) // 1024 for line in file if line.startswith("MemAvailable"))
        return min(self.cap_mb, available - _KEPT)

    def zoo(self, *names: str) -> list[Path]:
        """Recipes' files, made where they are missing."""
        missing = [name for name in names if not (self.folder / name).exists()]
        if missing:
            command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *missing]
            subprocess.run([*command, "--cores", "1"], cwd=self.folder, env=self.environment, check=True)
        return [self.folder / name for name in names]

    def models(self, kind: str, *numbers: str) -> list[Path]:
        """Files of models.py, made where they are missing."""
        folder = self.folder / f"{kind}-{'-'.join(numbers)}"
        if not folder.exists():
            command = [sys.executable, str(ROOT / "benchmarks" / "models.py"), kind, f"{folder}.new", *numbers]
            subprocess.run(command, env=self.environment, check=True)
            os.rename(f"{folder}.new", folder)
        return sorted(folder.iterdir())


def add_up(costs: list[Cost]) -> Cost:
    """Of processes that ran one after the other."""
    return Cost(
        round(sum(cost.cpu_seconds for cost in costs), 2),
        round(sum(cost.wall_seconds for cost in costs), 2),
        max(cost.peak_mb for cost in costs),
        next((cost.status for cost in costs if cost.status), 0),
        next((cost.killed for cost in costs if cost.killed), None),
        costs[0].load,
    )


def _set(
    bench: Bench, sources: list[Path], extensions: tuple[str, ...], *, every: int = 1, sequential: bool = False
) -> None:
    """Every source to every extension: theirs file by file, ours in one run.

    `every`: of their runs only each such one is made, and stands for the others.
    """
    parameters = {source.stem: {"input_shape": SHAPE} for source in sources if source.suffix == ".pt"}
    for _ in range(bench.repeats):
        for source in sources[::every] if bench.measures("official") else []:
            for extension in extensions:
                target = f"{source.stem}.{extension}"
                cost = bench.official(source, target, sequential=sequential)
                bench.add(case=target, who="official", stands_for=every, **asdict(cost))
        if not bench.measures("converter"):
            continue
        targets = [f"{source.stem}.{extension}" for source in sources for extension in extensions]
        cost, verified = bench.ours(sources, targets, parameters=parameters)
        bench.add(case="all", who="converter", files=len(targets), verified=verified, **asdict(cost))


def applications(bench: Bench) -> None:
    _set(bench, bench.zoo(*(f"zoo/{name}.h5" for name in APPLICATIONS)), ("onnx", "tflite"))


def single(bench: Bench) -> None:
    """The two applications that cost most, one target a run."""
    for _ in range(bench.repeats):
        for name, extension in (("ResNet50", "onnx"), ("VGG16", "onnx"), ("VGG16", "tflite")):
            sources = bench.zoo(f"zoo/{name}.h5")
            cost, verified = bench.ours(sources, [f"{name}.{extension}"])
            bench.add(case=f"{name}.{extension}", who="converter", files=1, verified=verified, **asdict(cost))


def torchvision(bench: Bench) -> None:
    _set(bench, bench.zoo(*(f"zoo/{name}.pt" for name in CLASSIFIERS)), ("onnx", "tflite"))


def lstm(bench: Bench) -> None:
    _set(bench, bench.zoo("zoo/lstm.h5"), ("onnx", "tflite"), sequential=True)


def bulk(bench: Bench) -> None:
    _set(bench, bench.models("bulk", "40"), ("onnx", "tflite"), every=bench.every)


def sizes(bench: Bench) -> None:
    """Keras models of growing size to ONNX."""
    for _ in range(bench.repeats):
        for size in SIZES:
            (source,) = bench.models("sized", size)
            target = f"{source.stem}.onnx"
            if bench.measures("official"):
                bench.add(case=size, who="official", **asdict(bench.official(source, target)))
            if not bench.measures("converter"):
                continue
            cost, verified = bench.ours([source], [target])
            bench.add(case=size, who="converter", files=1, verified=verified, **asdict(cost))
            command = [sys.executable, "-c", "import sys, keras; keras.models.load_model(sys.argv[1])", str(source)]
            loading = measure(command, bench.folder, cap_mb=bench.cap_mb, environment=bench.environment)
            bench.add(case=size, who="loading", **asdict(loading))


def counts(bench: Bench) -> None:
    """Growing numbers of small Keras models to ONNX. One process for each file costs the same each time: ten are run."""
    counts = [count for count in COUNTS if count <= bench.most] if bench.measures("converter") else []
    sources = bench.models("bulk", str(max(counts, default=1)))
    for count in counts:
        targets = [f"{source.stem}.onnx" for source in sources[:count]]
        cost, verified = bench.ours(sources[:count], targets)
        bench.add(case=str(count), who="converter", files=count, verified=verified, **asdict(cost))
        if count <= 10 and bench.measures("official"):
            costs = [bench.official(source, target) for source, target in zip(sources[:count], targets, strict=True)]
            bench.add(case=str(count), who="official", **asdict(add_up(costs)))


SECTIONS = {
    "single": single,
    "applications": applications,
    "torchvision": torchvision,
    "lstm": lstm,
    "bulk": bulk,
    "sizes": sizes,
    "counts": counts,
    "idle": idle.section,
    "clean": clean.section,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"{', '.join([*SECTIONS, 'page'])}; default all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cap", type=float, default=12, help="GB above which a command is killed")
    parser.add_argument(
        "--every", type=int, default=1, help="official runs of the bulk set: make each Nth, count it N times"
    )
    parser.add_argument("--most", type=int, default=1000, help="the largest number of models in section counts")
    parser.add_argument("--note", help="a sentence for the page on the circumstances of this run")
    parser.add_argument("--only", choices=("converter", "official"), help="measure one side, keep the other's figures")
    parser.add_argument("--folder", type=Path, default=ROOT / "intermediate" / "bench")
    parser.add_argument("--results", type=Path, default=ROOT / "docs" / "benchmark.json")
    args = parser.parse_args()
    if unknown := set(args.sections) - {*SECTIONS, "page"}:
        parser.error(f"no section {', '.join(sorted(unknown))}: choose from {', '.join([*SECTIONS, 'page'])}")
    args.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(args.folder, args.results, args.repeats, round(args.cap * 1024), args.every, args.most, args.only)
    if args.note is not None:
        bench.stored["note"] = args.note
        bench.results.write_text(json.dumps(bench.stored, indent=1) + "\n")
    for name in args.sections or SECTIONS:
        if name in SECTIONS:
            bench.begin(name)
            SECTIONS[name](bench)
    page.write(args.results)


if __name__ == "__main__":
    main()
