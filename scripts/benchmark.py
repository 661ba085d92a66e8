"""How fast a converted file runs, as JSON: benchmark.py --threads=1 [--device=android --tool=PATH] FILE OUTPUT.

Here: onnxruntime or LiteRT, in fresh processes (converter/profiling/latency.py), and a time for each operator
(converter/profiling/operator_times.py). On a phone: TensorFlow Lite's own benchmark tool (converter/profiling/android.py).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from converter.errors import ConverterError
from converter.escape import printable
from converter.planning.source_files import file_sha256
from converter.run_state import failures
from converter.run_state.lifetime import in_run
from converter.running.reader import confined_reader


def measure(args: argparse.Namespace) -> dict:
    """The figures of one file; raises UnsupportedError in one sentence."""
    if args.device == "android":
        from converter.profiling.android import benchmark_on_phone

        figures = benchmark_on_phone(
            args.file, tool=args.tool, serial=args.serial, runs=args.runs, warmup=args.warmup, threads=args.threads
        )
        operators, method = figures.pop("operators"), "benchmark_model's profile"
    else:
        from converter.profiling.latency import latency
        from converter.profiling.operator_times import METHODS, operator_times

        found = latency(args.file, runs=args.runs, warmup=args.warmup, threads=args.threads)
        figures = {"device": {"kind": "local", "name": _processor()}, **found.to_json()}
        with confined_reader(args.file, [args.output.parent, *failures.folders()]):
            operators, method = operator_times(args.file, threads=args.threads), METHODS[args.file.suffix]
    return {
        "target": str(args.file),
        "file": {"sha256": file_sha256(args.file), "bytes": args.file.stat().st_size},
        **figures,
        "threads": args.threads,
        "warmup": args.warmup,
        "operators_measured": method,
        "operators": [asdict(entry) for entry in operators],
    }


def _processor() -> str:
    """The processor's name and how many there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("local", "android"), default="local")
    parser.add_argument("--tool", help="benchmark_model for the phone's processor")
    parser.add_argument("--serial", help="the phone, where several are attached")
    parser.add_argument("file", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        figures = measure(args)
    except ConverterError as error:
        if in_run():
            failures.remember(str(args.output), f"{args.output}: {error}")
        print(printable(str(error)), file=sys.stderr)
        return 1
    args.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
