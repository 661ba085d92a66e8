"""Representative data that does not work, from the command line: one sentence each, and the other files are made."""

from __future__ import annotations

import shutil

import numpy as np
from conftest import ROOT, Project

HEAD = "import numpy as np\ndef get_dataset():\n    for i in range(20):\n        x = np.full((1, 8, 8, 1), i / 20, np.float32)\n"
SCRIPTS = {
    "raises.py": (
        HEAD + "        if i == 7:\n            raise RuntimeError('the disk is gone')\n        yield x\n",
        "get_dataset() of data/raises.py raised RuntimeError: the disk is gone at sample 7 (line 6)",
    ),
    "nan.py": (
        HEAD + "        yield x / (i - 3) * (i - 3)\n",
        "sample 3 of data/nan.py: input image holds NaN or infinite values",
    ),
    "shape.py": (
        HEAD + "        yield x[:, :5]\n",
        "sample 0 of data/shape.py: input image: expected float32 [-1,8,8,1], found float32 [1,5,8,1]",
    ),
    "imports.py": (
        "import nowhere_to_be_found\n" + HEAD,
        "data/imports.py raised ModuleNotFoundError: No module named 'nowhere_to_be_found'",
    ),
    "loss.py": (HEAD + "        yield x * 1e-4\n", "the file does not compute what the source computes: output digit"),
}


def test_each_mistake_is_one_sentence(project: Project):
    data = project.folder / "data"
    data.mkdir()
    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    jobs = []
    for name, (text, _) in SCRIPTS.items():
        (data / name).write_text(text)
    rng = np.random.default_rng(0)
    for count in (1, 500):
        np.savez(data / f"{count}.npz", image=rng.random((count, 8, 8, 1), np.float32))
    np.savez(data / "seen.npz", image=rng.random((40, 8, 8, 1), np.float32))
    for name in [*SCRIPTS, "1.npz", "500.npz"]:
        jobs.append(
            {
                "convert_from": "models/digits.h5",
                "convert_to": f"out/{name}.tflite",
                "quantization": {"type": "int8", "load": f"data/{name}"},
                "verify": {"inputs": "data/seen.npz"},
            }
        )
    warned = {**jobs[4], "convert_to": "out/warned.tflite", "verify": {"inputs": "data/seen.npz", "on_failure": "warn"}}
    run = project.snakemake(config={"jobs": [*jobs, warned]})
    assert run.returncode == 1
    lines = [line for line in run.stderr.splitlines() if line.startswith("out/")]
    assert len(lines) == len(SCRIPTS) and "Traceback" not in run.stderr
    for name, (_, sentence) in SCRIPTS.items():
        (line,) = [line for line in lines if line.startswith(f"out/{name}.tflite: ")]
        assert sentence in line
        report = project.report(f"out/{name}.tflite")
        assert report["status"] == ("inaccurate" if name == "loss.py" else "failed")
    made = sorted(path.name for path in (project.folder / "out").iterdir())
    assert made == ["1.npz.tflite", "500.npz.tflite", "warned.tflite"]
    assert project.report("out/warned.tflite")["status"] == "inaccurate"
    assert (project.folder / "rejected" / "out" / "loss.py.tflite").stat().st_size > 40_000
    one, many = project.report("out/1.npz.tflite"), project.report("out/500.npz.tflite")
    assert any("data/1.npz has 1 sample; 100 or more" in note for note in one["notes"])
    assert not any("samples;" in note for note in many["notes"])
    counts = [report["metadata"]["quantization"]["calibration_samples"] for report in (one, many)]
    assert counts == [1, 400]
