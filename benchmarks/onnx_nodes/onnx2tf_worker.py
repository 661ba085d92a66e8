"""Runs in onnx2tf's own environment: python onnx2tf_worker.py FOLDER ...; a line of JSON for each.

Converts FOLDER/case.onnx as onnx2tf does without options, runs its float32 file in LiteRT on FOLDER/inputs.npz, in either
layout, and writes FOLDER/outputs.npz.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

_SECONDS = 120


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import ai_edge_litert.interpreter  # noqa: F401  for all, which are forked from here
    import onnx2tf  # noqa: F401
    import tensorflow  # noqa: F401

    for module in list(sys.modules.values()):  # it fetches pictures to compare its own results with
        if getattr(module, "download_test_image_data", None) is not None:
            module.download_test_image_data = _pictures

    for name in sys.argv[1:]:
        folder = Path(name)
        pid = os.fork()
        if pid == 0:
            signal.alarm(_SECONDS)
            _child(folder)
        _, status, usage = os.wait4(pid, 0)
        note = folder / "reason"
        reason = note.read_text() if note.exists() else f"the process ended with status {status}"
        answer = {
            "folder": name,
            "reason": reason or None,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "megabytes": usage.ru_maxrss // 1024,
        }
        print(json.dumps(answer), flush=True)


def _pictures() -> np.ndarray:
    return np.random.default_rng(1).random((20, 128, 128, 3), dtype=np.float32)


def _child(folder: Path) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    (folder / "reason").unlink(missing_ok=True)
    try:
        _convert(folder)
        (folder / "reason").write_text("")
    except BaseException as error:  # it ends by sys.exit too
        (folder / "reason").write_text(" ".join(f"{type(error).__name__}: {error}".split())[:300])
    os._exit(0)


def _convert(folder: Path) -> None:
    import onnx2tf

    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    onnx2tf.convert(input_onnx_file_path=str(folder / "case.onnx"), output_folder_path=str(made), non_verbose=True)
    (path,) = made.glob("*_float32.tflite")
    inputs = dict(np.load(folder / "inputs.npz"))
    outputs, reasons = {}, []
    for layout in ("own", "channels last"):
        try:
            found = _run(path, {name: _moved(array, layout) for name, array in inputs.items()})
        except (RuntimeError, ValueError) as error:
            reasons.append(str(error))
            continue
        outputs |= {f"{layout}/{index}": array for index, array in enumerate(found)}
    shutil.rmtree(made, ignore_errors=True)
    if not outputs:
        raise RuntimeError(f"LiteRT does not run it: {reasons[0]}")
    np.savez(folder / "outputs.npz", **outputs)


def _moved(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if layout != "own" and array.ndim >= 3 else array


def _run(path: Path, inputs: dict) -> list:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    left, chosen = dict(inputs), []
    for detail in interpreter.get_input_details():
        name = next((name for name in left if f"_{name}:" in f"_{detail['name']}:"), next(iter(left)))
        chosen.append((detail, left.pop(name)))
    for detail, array in chosen:
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape, strict=False)
    interpreter.allocate_tensors()
    for detail, array in chosen:
        interpreter.set_tensor(detail["index"], np.ascontiguousarray(array).astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


main()
