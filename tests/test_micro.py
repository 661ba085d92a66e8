"""C arrays for microcontrollers: run in TensorFlow Lite Micro, in the arena that the header names, or not published."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import keras
import numpy as np
import pytest
import torch
from conftest import ROOT, Project, last_line

from converter.errors import UnsupportedError
from converter.micro import export
from converter.micro.operators import methods, methods_of
from converter.tflite import c_array
from converter.tflite.flatbuffer import operators, read, schema

runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")

SCHEMA = json.loads((ROOT / "configs" / "report.schema.json").read_text())
MOCK = """
#include <cstdio>
#include "%s"
enum Status { kOk = 0, kError = 1 };
struct Resolver {
  int added = 0;
%s
};
int main() {
  Resolver resolver;
  if (!%s::AddOperators(resolver) || resolver.added != int(%s::kOperatorCount)) return 1;
  if (reinterpret_cast<std::size_t>(%s::kModel) %% 16 != 0) return 2;
  std::fwrite(%s::kModel, 1, %s::kModelSize, stdout);
  return 0;
}
"""


def number(header: str, name: str) -> int:
    return int(re.search(rf"{name} = (\d+);", header)[1])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """models/digits.h5 as float and int8 arrays, and the TensorFlow Lite files of the same batch."""
    project = Project(tmp_path_factory.mktemp("micro"))
    shutil.copyfile(ROOT / "models" / "digits.h5", project.folder / "models" / "digits.h5")
    np.savez(project.folder / "train.npz", image=images()[:300])
    entry = {"quantization": {"load": "train.npz"}, "batch": 1}
    names = ("digits.cc", "digits.int8.cc", "digits.tflite", "digits.int8.tflite", "digits.dynamic.cc")
    run = project.snakemake(
        "--keep-going", *(f"converted/{name}" for name in names), config={"models": {"digits": entry}}
    )
    assert run.returncode == 1  # of the dynamic one
    project.said = last_line(run)
    return project


def images() -> np.ndarray:
    from sklearn.datasets import load_digits

    return (load_digits().images / 16).astype(np.float32)[..., None]


@pytest.mark.parametrize("variant", ["", ".int8"])
def test_the_array_is_the_file_and_runs_in_its_arena(digits: Project, variant: str):
    converted = digits.folder / "converted"
    header = (converted / f"digits{variant}.h").read_text()
    data = c_array.read_array(converted / f"digits{variant}.cc")
    assert data == (converted / f"digits{variant}.tflite").read_bytes()
    arena = number(header, "kArenaSize")
    report = digits.report(f"digits{variant}.cc")
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["status"] == "verified" and report["verification"]["runtime"].startswith("tflite-micro ")
    micro = report["metadata"]["micro"]
    assert micro["arena_bytes"] == arena and report["file"]["beside"]["name"] == f"converted/digits{variant}.h"
    assert micro["operators"] == ["CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "RESHAPE", "SOFTMAX"]
    model = keras.saving.load_model(digits.folder / "models" / "digits.h5", compile=False)
    samples = images()[-50:]
    expected = model(samples).numpy().argmax(-1)
    interpreter = runtime.Interpreter.from_bytes(data, arena_size=arena)
    scale = interpreter.get_input_details(0)["quantization_parameters"]
    found = []
    for sample in samples[:, None]:
        if variant:
            sample = np.clip(np.rint(sample / scale["scales"][0]) + scale["zero_points"][0], -128, 127).astype(np.int8)
        interpreter.set_input(sample, 0)
        interpreter.invoke()
        found.append(int(interpreter.get_output(0).argmax()))
    assert (np.array(found) == expected).mean() >= (0.96 if variant else 1.0)
    with pytest.raises(RuntimeError):  # it is no size out of the air
        runtime.Interpreter.from_bytes(data, arena_size=arena - 1600)


def test_what_micro_does_not_run_is_said_in_a_sentence(digits: Project):
    assert digits.said.startswith("converted/digits.dynamic.cc: TensorFlow Lite Micro does not run the model (")
    assert "Hybrid models are not supported" in digits.said and "write quantization.type int8 or float32" in digits.said
    assert not (digits.folder / "converted" / "digits.dynamic.h").exists()


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("standard", ["11", "20"])
def test_it_compiles_by_itself(digits: Project, standard: str, tmp_path: Path):
    """With a resolver that has exactly the methods of the operators used."""
    header = (digits.folder / "converted" / "digits.int8.h").read_text()
    name = re.search(r"^namespace (\w+) \{", header, re.M)[1]
    added = [methods()[name] for name in digits.report("digits.int8.cc")["metadata"]["micro"]["operators"]]
    mocked = "\n".join(f"  Status {method}() {{ ++added; return kOk; }}" for method in added)
    (tmp_path / "main.cc").write_text(MOCK % ("digits.int8.h", mocked, *[name] * 5))
    command = ["g++", f"-std=c++{standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I", "converted"]
    command += [str(tmp_path / "main.cc"), "converted/digits.int8.cc", "-o", str(tmp_path / "main")]
    run = subprocess.run(command, cwd=digits.folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    told = subprocess.run([str(tmp_path / "main")], capture_output=True)
    assert told.returncode == 0
    assert told.stdout == (digits.folder / "converted" / "digits.int8.tflite").read_bytes()


def test_pytorch_source_and_places_of_the_job(project: Project):
    """Channels-last, elsewhere; and an address of object storage, which two files do not go to."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save(project.folder / "models" / "net.pt")
    jobs = [
        {"convert_from": "models/net.pt", "convert_to": "out/net.v1.cc", "input_shape": "1,3,8,8"},
        {"convert_from": "models/net.pt", "convert_to": "s3://bucket/net.cc", "input_shape": "1,3,8,8"},
    ]
    run = project.snakemake("out/net.v1.cc", config={"jobs": jobs})
    assert run.returncode == 0, run.stderr
    header = (project.folder / "out" / "net.v1.h").read_text()
    assert "float32 [1,8,8,3]" in header and "namespace net_v1_model {" in header
    assert '#include "net.v1.h"' in (project.folder / "out" / "net.v1.cc").read_text()
    report = project.report("out/net.v1.cc")
    assert report["status"] == "verified" and report["route"][-1] == "c_array"
    assert 0 < report["verification"]["outputs"][0]["max_abs_diff"] <= report["verification"]["outputs"][0]["tolerance"]


def test_an_array_that_is_not_the_file_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """What is run is what stands in the file."""
    from tf_hub import make_hub

    from converter.contracts import ExportJob
    from converter.exporting import export_model

    import tensorflow as tf  # isort: skip

    weights = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    hub = make_hub(
        tmp_path, lambda x: tf.nn.relu(x @ weights) + x[:, :3], [tf.TensorSpec([1, 6], tf.float32, "x")], ["y"]
    )
    hub.source = {"path": "models/x.h5", "sha256": "0"}
    job = ExportJob("converted/x.cc")
    assert export_model(hub, job, tmp_path / "x.cc").verification.passed

    def another_bit(path: Path) -> bytes:
        data = bytearray(c_array.read_array(path))
        start = (
            data.index(weights.tobytes()[:4]) if weights.tobytes()[:4] in data else data.index(weights.T.tobytes()[:4])
        )
        data[start + 2] ^= 0x40
        return bytes(data)

    monkeypatch.setattr(export, "read_array", another_bit)
    wrong = export_model(hub, job, tmp_path / "x.cc").verification
    assert not wrong.passed and "differs by" in wrong.message


def test_operators_that_micro_lacks():
    model = schema.ModelT()
    model.operatorCodes, model.subgraphs = [schema.OperatorCodeT()], [schema.SubGraphT()]
    model.operatorCodes[0].builtinCode = schema.BuiltinOperator.TOPK_V2
    model.subgraphs[0].operators = [schema.OperatorT()]
    with pytest.raises(UnsupportedError, match="has no operator TOPK_V2: cut the model before it"):
        methods_of(model)
    assert all(hasattr(schema.BuiltinOperator, name) for name in methods())


def test_names_of_strangers_stay_comments_and_identifiers(tmp_path: Path):
    model = c_array.CModel("7 a.int", b"1234", ["AddConv2D"], 64, 0, ["x\n#error \\", "??/"], ["é*/ int x;"])
    assert model.namespace == "m7_a_int_model"
    assert replace(model, stem="été").namespace == "t_model" and replace(model, stem="é").namespace == "model"
    c_array.write(tmp_path / "x.cc", tmp_path / "x.h", model)
    for path in tmp_path.iterdir():
        text = path.read_text()
        assert "#error" not in text.replace("_#error", "").replace("// x__error", "") and "??/" not in text
        assert "\\" not in text
    assert c_array.read_array(tmp_path / "x.cc") == b"1234"


def test_read_again_it_is_the_same_for_all_bytes(tmp_path: Path):
    data = bytes(range(256)) + b"\0" * 15
    c_array.write(tmp_path / "x.cc", tmp_path / "x.h", c_array.CModel("x", data, ["AddAdd"], 16, 2, [], []))
    assert c_array.read_array(tmp_path / "x.cc") == data
    header = (tmp_path / "x.h").read_text()
    assert number(header, "kModelSize") == 271 and number(header, "kResourceVariableCount") == 2


def test_every_operator_of_a_verified_file_is_in_the_table(digits: Project):
    data = read((digits.folder / "converted" / "digits.int8.tflite").read_bytes())
    assert set(methods_of(data)) == {name for _, _, name in operators(data)}
