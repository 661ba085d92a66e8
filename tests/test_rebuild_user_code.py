"""The user's own modules are causes like the source: those a script imports, at once or late, from any folder of the user's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import Project

NET = """
import torch
from blocks import activation
from parts import SCALE
import extra

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        from late import shift
        return activation(self.linear(x)) * SCALE + shift + extra.value
"""
FILES = {
    "models/net.py": NET,
    "models/blocks.py": "import torch\nactivation = torch.nn.SiLU()\n",
    "models/late.py": "shift = 1.0\n",
    "models/parts/__init__.py": "from .head import SCALE\n",
    "models/parts/head.py": "SCALE = 2.0\n",
    "library/extra.py": "value = 0.0\n",
}
CONFIG = {"models": {"net": {"network_script": "models/net.py", "network_name": "Net", "input_shape": "-1,4"}}}


def planned(project: Project, *targets: str, config: dict = CONFIG) -> set[str]:
    """What a run would do: "read net" for the import, and the name of each target that is written."""
    run = project.snakemake(
        *(f"converted/{target}" for target in targets), "--dry-run", "--quiet", "host", config=config
    )
    assert run.returncode == 0, run.stderr
    output = run.stdout + run.stderr
    found = {f"{verb} {name}" for verb, name in re.findall(r"^(?:Job \d+: )?(read|write) (\S+)$", output, re.MULTILINE)}
    assert found or "Nothing to be done" in output, output
    return {name.removeprefix("write ") for name in found}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    state = {f"linear.{name}": value for name, value in torch.nn.Linear(4, 3).state_dict().items()}
    torch.save(state, folder / "models" / "net.pt")
    return state


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Project:
    """net.onnx, made once; tests change a module and put it back."""
    folder = tmp_path_factory.mktemp("code")
    project = Project(folder)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(text)
    weights(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "library")
        run = project.snakemake("converted/net.onnx", config=CONFIG)
        assert run.returncode == 0, run.stderr
        yield project


def test_the_record_itself_is_no_cause(made: Project):
    """Nobody knows before the first import what it will import; a second run has nothing to do all the same."""
    assert planned(made, "net.onnx") == set()
    assert planned(made, "net.onnx", "net.tflite") == {"net.tflite"}


FAST = ("models/late.py", "library/extra.py")
OTHERS = [name for name in FILES if name not in (*FAST, "models/net.py")]


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_each_module_of_the_users_is_a_cause(made: Project, name: str):
    path = made.folder / name
    text, times = path.read_text(), path.stat()
    try:
        path.write_text(text + "# edited\n")
        assert planned(made, "net.onnx") == {"read models/net.pt", "net.onnx"}
        path.unlink()
        assert planned(made, "net.onnx") == {"read models/net.pt", "net.onnx"}
    finally:
        path.write_text(text)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert planned(made, "net.onnx") == set()
    os.utime(path)  # another time with the same bytes is none
    assert planned(made, "net.onnx") == set()


@pytest.mark.parametrize("name", ["models/extra.py", "models/extra/__init__.py", "models/parts/head/__init__.py"])
def test_a_module_that_is_found_first_from_now_on_is_a_cause(made: Project, name: str):
    path = made.folder / name
    existed = path.parent.is_dir()
    path.parent.mkdir(exist_ok=True)
    path.write_text("value, SCALE = 5.0, 3.0\n")
    try:
        assert planned(made, "net.onnx") == {"read models/net.pt", "net.onnx"}
    finally:
        path.unlink()
        if not existed:
            path.parent.rmdir()
    (made.folder / "models" / "unrelated.py").write_text("")
    assert planned(made, "net.onnx") == set()


def test_the_file_computes_what_todays_code_computes(tmp_path: Path, project: Project):
    """The edit changes neither the size nor the second of the file's time, by which Python tells whether to compile it."""
    folder = project.folder
    net = "import torch\nfrom blocks import activation\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n"
    net += "        super().__init__()\n        self.linear = torch.nn.Linear(4, 3)\n\n"
    net += "    def forward(self, x):\n        return activation()(self.linear(x))\n"
    (folder / "models" / "net.py").write_text(net)
    blocks = folder / "models" / "blocks.py"
    state = weights(folder)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32))
    linear = torch.nn.functional.linear(x, state["linear.weight"], state["linear.bias"])
    for turn, name in enumerate(["SiLU", "ReLU", "SiLU"]):
        blocks.write_text(f"from torch.nn import {name} as activation\n")
        os.utime(blocks, ns=(0, 1_700_000_000_000_000_000 + turn))
        run = project.snakemake("converted/net.onnx", config=CONFIG)
        assert run.returncode == 0, run.stderr
        assert project.report("net.onnx")["status"] == "verified"
        session = onnxruntime.InferenceSession(folder / "converted" / "net.onnx")
        (actual,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(actual, getattr(torch.nn, name)()(linear), rtol=1e-4, atol=1e-5)
        assert planned(project, "net.onnx") == set()
    assert not list((folder / "models").glob("__pycache__"))


def test_a_mended_module_is_read_after_a_failed_import(project: Project):
    folder = project.folder
    (folder / "models" / "net.py").write_text("import torch\nfrom blocks import Net\n")
    weights(folder)
    network = "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    network += (
        "        self.linear = torch.nn.Linear(4, 3)\n\n    def forward(self, x):\n        return self.linear(x)\n"
    )
    for text in (None, "raise SystemExit(3)\n"):  # not there yet, ends the program
        if text is not None:
            (folder / "models" / "blocks.py").write_text(text)
            assert "read models/net.pt" in planned(project, "net.onnx")
        assert project.snakemake("converted/net.onnx", config=CONFIG).returncode == 1
        error = project.report("net.onnx")["reason"]
        assert error.startswith("network_script: models/net.py raised "), error
    (folder / "models" / "blocks.py").write_text(network)
    run = project.snakemake("converted/net.onnx", config=CONFIG)
    assert run.returncode == 0, run.stderr
    assert project.report("net.onnx")["status"] == "verified"


@pytest.mark.slow
def test_modules_of_a_script_for_representative_data_are_causes_of_its_target(project: Project):
    folder = project.folder
    weights(folder)
    (folder / "models" / "net.py").write_text(
        "import torch\n\nclass Net(torch.nn.Sequential):\n    def __init__(self):\n"
        "        super().__init__()\n        self.linear = torch.nn.Linear(4, 3)\n"
    )
    (folder / "data").mkdir()
    (folder / "data" / "load.py").write_text(
        "def get_dataset():\n    from samples import make\n    for seed in range(20):\n        yield make(seed)\n"
    )
    samples = "import numpy as np\n\ndef make(seed):\n    return np.random.default_rng(seed).normal(size=(1, 4)).astype('f4')\n"
    (folder / "data" / "samples.py").write_text(samples)
    config = {"models": {"net": {**CONFIG["models"]["net"], "quantization": {"load": "data/load.py"}}}}
    targets = ["net.int8.tflite", "net.onnx"]
    run = project.snakemake(*(f"converted/{target}" for target in targets), config=config)
    assert run.returncode == 0, run.stderr
    assert planned(project, *targets, config=config) == set()
    (folder / "data" / "samples.py").write_text(samples.replace("normal(", "uniform("))
    assert planned(project, *targets, config=config) == {"net.int8.tflite"}
    run = project.snakemake(*(f"converted/{target}" for target in targets), config=config)
    assert run.returncode == 0, run.stderr
    assert planned(project, *targets, config=config) == set()
    (folder / "data" / "samples.py").unlink()
    assert planned(project, *targets, config=config) == {"net.int8.tflite"}
