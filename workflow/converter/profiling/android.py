"""Run TensorFlow Lite's benchmark tool on a phone: push it and the file, run, parse what it says, clean up.

The tool is `benchmark_model` for the phone's processor, built from TensorFlow's sources (tensorflow/lite/tools/benchmark);
adb is Android's debug bridge. Neither is part of this project: docs/profile.md says how to get them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from converter.errors import UnsupportedError
from converter.profiling.operator_times import OperatorTime

__all__ = ["benchmark_on_phone", "parse"]

_FOLDER = "/data/local/tmp/converter-benchmark"
_SECONDS = 600


def benchmark_on_phone(
    path: Path, *, tool: str | None, serial: str | None, runs: int, warmup: int, threads: int
) -> dict:
    """Measure a .tflite file on the attached phone; see `parse` for what comes back.

    Raises UnsupportedError, in one sentence, where adb, a phone or the tool is missing, or the tool fails.
    """
    if path.suffix != ".tflite":
        raise UnsupportedError(f"{path}: phones run .tflite files; leave benchmark.device out for the others")
    adb = shutil.which("adb")
    if adb is None:
        raise UnsupportedError(
            "no adb on PATH: install Android's platform tools (Debian: adb), or leave benchmark.device out"
        )
    if not tool or not Path(tool).is_file():
        said = f"benchmark.tool {tool} does not exist" if tool else "benchmark.tool is not set"
        raise UnsupportedError(f"{said}: write the path of TensorFlow Lite's benchmark_model for the phone's processor")
    phone = [adb, "-s", _serial(adb, serial)]
    name = _call([*phone, "shell", "getprop", "ro.product.model"]).strip()
    try:
        _call([*phone, "shell", "mkdir", "-p", _FOLDER])
        _call([*phone, "push", tool, f"{_FOLDER}/benchmark_model"])
        _call([*phone, "push", str(path), f"{_FOLDER}/model.tflite"])
        _call([*phone, "shell", "chmod", "755", f"{_FOLDER}/benchmark_model"])
        options = [f"--graph={_FOLDER}/model.tflite", f"--num_threads={threads}", f"--num_runs={runs}"]
        options += [f"--warmup_runs={warmup}", "--warmup_min_secs=0", "--min_secs=0", "--enable_op_profiling=true"]
        options += ["--report_peak_memory_footprint=true"]
        said = _call([*phone, "shell", f"{_FOLDER}/benchmark_model", *options])
    finally:
        subprocess.run([*phone, "shell", "rm", "-rf", _FOLDER], capture_output=True, timeout=_SECONDS)
    return {"device": {"kind": "android", "name": name}, **parse(said)}


def _serial(adb: str, wanted: str | None) -> str:
    """The phone to use, from the lines "SERIAL<tab>STATE" of `adb devices`."""
    lines = _call([adb, "devices"]).splitlines()[1:]
    states = dict(line.split("\t", 1) for line in lines if "\t" in line)
    if wanted is not None and wanted not in states:
        known = ", ".join(states) or "none"
        raise UnsupportedError(f"no phone has the serial number {wanted} (attached: {known}): correct benchmark.serial")
    ready = [serial for serial, state in states.items() if state == "device" and wanted in (None, serial)]
    if not ready:
        why = "; ".join(f"{serial} is {state}" for serial, state in states.items())
        raise UnsupportedError(
            f"no phone is ready{f' ({why})' if why else ''}: "
            "attach one with USB debugging switched on, and allow this computer on it"
        )
    if len(ready) > 1:
        raise UnsupportedError(f"several phones are attached ({', '.join(ready)}): name one with benchmark.serial")
    return ready[0]


def _call(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()] or ["it said nothing"]
        raise UnsupportedError(
            f"adb {command[3] if len(command) > 3 else command[1]} failed: {lines[-1].strip()[:300]}"
        )
    return done.stdout + done.stderr


def parse(said: str) -> dict:
    """The figures in the tool's output. Times in ms, memory in MB; p90 and p99 are None: the tool keeps no single times."""
    timings = re.search(
        r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+), Warmup \(avg\): ([\d.e+]+), "
        r"Inference \(avg\): ([\d.e+]+)",
        said,
    )
    if timings is None:
        lines = [line for line in said.splitlines() if line.strip()] or ["nothing"]
        raise UnsupportedError(f"the phone's benchmark tool gave no timings; it said last: {lines[-1].strip()[:300]}")
    init, first, _, average = (float(value) / 1000 for value in timings.groups())
    counts = re.findall(r"count=(\d+) .*", said)
    statistics = [dict(re.findall(r"(\w+)=([\d.e+]+)", line)) for line in re.findall(r"count=\d+.*", said)]
    last = statistics[-1] if statistics else {}
    memory = re.search(r"[Pp]eak memory footprint \(MB\)[^:]*: ([\d.]+)", said)
    median = float(last["median"]) / 1000 if "median" in last else None
    return {
        "runtime": "benchmark_model",
        "runs": int(counts[-1]) if counts else None,
        "batch": None,
        "init_ms": init,
        "first_ms": first,
        "mean_ms": average,
        "median_ms": median,
        "p90_ms": None,
        "p99_ms": None,
        "throughput_per_second": round(1000 / (median or average), 2),
        "memory_before_mb": None,
        "peak_memory_mb": float(memory[1]) if memory else None,
        "operators": _operators(said),
    }


def _operators(said: str) -> list[OperatorTime]:
    """The table "Run Order" of the runs (the last one in the output; the first may be of the initialisation)."""
    tables = re.split(r"=+ Run Order =+", said)
    if len(tables) < 2:
        return []
    found: list[OperatorTime] = []
    columns: list[str] = []
    for line in tables[-1].splitlines():
        cells = [cell.strip() for cell in line.split("\t") if cell.strip()]
        if "[node type]" in line:
            columns = [cell.strip("[] ") for cell in re.findall(r"\[[^\]]*\]", line)]
        elif columns and len(cells) >= len(columns) - 1:
            values = dict(zip(columns, cells, strict=False))
            ms = values.get("avg ms") or values["avg_ms"]
            found.append(OperatorTime(values["node type"], values.get("Name", "").split("]")[0].strip("["), float(ms)))
        elif columns and found:
            break
    return found
