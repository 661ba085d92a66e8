"""What planning costs: CPU seconds and memory of a dry run over N models, two targets each: scaling.py 100 1000."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from commands import SNAKEMAKE
from text_graphs import linear


def measure(count: int) -> tuple[float, int]:
    """CPU seconds and peak MB of one Snakemake that plans `count` models and makes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        models.mkdir()
        (models / "m0.pbtxt").write_text(linear())
        for index in range(1, count):
            os.link(models / "m0.pbtxt", models / f"m{index}.pbtxt")
        jobs = [
            f"- {{convert_from: models/m{index}.pbtxt, convert_to: converted/m{index}.{extension}}}\n"
            for index in range(count)
            for extension in ("onnx", "tflite")
        ]
        Path(folder, "jobs.yaml").write_text("jobs:\n" + "".join(jobs))
        process = subprocess.Popen(
            [*SNAKEMAKE, "--configfile", "jobs.yaml", "--dry-run"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        return usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024


def main() -> None:
    print("| models | targets | CPU s | MB |\n|---|---|---|---|")
    for count in map(int, sys.argv[1:]):
        seconds, memory = measure(count)
        print(f"| {count:,} | {2 * count:,} | {seconds:.1f} | {memory} |", flush=True)


if __name__ == "__main__":
    main()
