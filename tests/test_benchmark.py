"""Benchmarks: what each operator costs, on a phone through a fake adb that keeps its calls, and the page that compares."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Project, last_line
from text_graphs import linear

from converter.errors import ParameterError, UnsupportedError
from converter.pages.profile import compared_page, operators_by_type
from converter.planning.config import read_config
from converter.profiling.android import benchmark_on_phone, parse
from converter.profiling.operator_times import operator_times

# The form of TensorFlow Lite's benchmark_model of 2.16 and later, run with --enable_op_profiling=true.
SAID = """\
INFO: STARTING!
INFO: Initialized session in 2.153ms.
INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=27021
INFO: Running benchmark for at least 20 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=20 first=24789 curr=24922 min=24632 max=26012 avg=24938.5 std=233 p5=24650 median=24901 p95=25500
INFO: Inference timings in us: Init: 2153, First inference: 27021, Warmup (avg): 27021, Inference (avg): 24938.5
INFO: Overall peak memory footprint (MB) via periodic monitoring: 9.46094
INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t ModifyGraphWithDelegate\t    1.500\t    1.500\t100.000%\t100.000%\t   888.000\t        1\tModifyGraphWithDelegate/0

INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t   20.123\t   20.001\t 80.200%\t 80.200%\t     0.000\t        1\t[net/conv/Relu]:0
\t                 SOFTMAX\t    0.010\t    0.012\t  0.048%\t 80.248%\t     0.000\t        1\t[net/probabilities]:1

============================== Top by Computation Time ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t   20.123\t   20.001\t 80.200%\t 80.200%\t     0.000\t        1\t[net/conv/Relu]:0
"""
ADB = """#!{python}
import json, sys
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(arguments) + "\\n")
if arguments == ["devices"]:
    print("List of devices attached")
    print({devices!r}, end="")
elif "getprop" in arguments:
    print("Testphone 3")
elif any(argument.startswith("--graph=") for argument in arguments):
    print({said!r})
    sys.exit({status})
"""
SETTINGS = {"serial": None, "runs": 20, "warmup": 1, "threads": 4}


class Phone:
    """A fake adb on PATH, the benchmark tool and a model."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        self.tool, self.model = folder / "benchmark_model", folder / "model.tflite"
        self.tool.write_bytes(b"tool")
        self.model.write_bytes(b"model")
        monkeypatch.setenv("PATH", str(folder))

    def attach(self, devices: str = "abc\tdevice\n", said: str = SAID, status: int = 0) -> None:
        values = {"python": sys.executable, "log": str(self.folder / "calls"), "devices": devices, "said": said}
        adb = self.folder / "adb"
        adb.write_text(ADB.format(status=status, **values))
        adb.chmod(0o755)

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]

    def measure(self, **settings) -> dict:
        return benchmark_on_phone(self.model, **{"tool": str(self.tool), **SETTINGS, **settings})


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    return Phone(tmp_path, monkeypatch)


def test_a_phone_measures_a_file_and_is_left_clean(phone: Phone):
    phone.attach()
    found = phone.measure()
    assert found["device"] == {"kind": "android", "name": "Testphone 3"}
    assert (found["init_ms"], found["first_ms"], found["median_ms"], found["runs"]) == (2.153, 27.021, 24.901, 20)
    assert found["p90_ms"] is None and found["peak_memory_mb"] == 9.46094
    operators = [(entry.type, entry.name, entry.ms) for entry in found["operators"]]
    assert operators == [("CONV_2D", "net/conv/Relu", 20.001), ("SOFTMAX", "net/probabilities", 0.012)]
    calls = phone.calls()
    assert all(call[:2] == ["-s", "abc"] for call in calls[1:])
    kinds = [call[2] if call[2] == "push" else call[3] for call in calls[1:]]
    folder = "/data/local/tmp/converter-benchmark"
    assert kinds == ["getprop", "mkdir", "push", "push", "chmod", f"{folder}/benchmark_model", "rm"]
    assert calls[3][3:] == [str(phone.tool), f"{folder}/benchmark_model"]
    assert {"--num_threads=4", "--num_runs=20", "--warmup_runs=1"} <= set(calls[-2])
    assert calls[-1][2:] == ["shell", "rm", "-rf", folder]


def test_a_tool_that_fails_is_removed_too(phone: Phone):
    phone.attach(said="ERROR: Failed to initialize XNNPACK", status=1)
    with pytest.raises(UnsupportedError, match="adb shell failed: ERROR: Failed to initialize XNNPACK"):
        phone.measure()
    assert phone.calls()[-1][3] == "rm"


@pytest.mark.parametrize(
    ("devices", "settings", "sentence"),
    [
        (None, {}, "no adb on PATH: install Android's platform tools"),
        ("", {}, "no phone is ready: attach one with USB debugging"),
        ("abc\tunauthorized\n", {}, r"no phone is ready \(abc is unauthorized\)"),
        ("abc\tdevice\ndef\tdevice\n", {}, r"several phones are attached \(abc, def\): name one with benchmark.serial"),
        ("abc\tdevice\n", {"serial": "xyz"}, r"no phone has the serial number xyz \(attached: abc\)"),
        ("abc\tdevice\n", {"tool": None}, "benchmark.tool is not set: write the path"),
        ("abc\tdevice\n", {"tool": "/nowhere/tool"}, "benchmark.tool /nowhere/tool does not exist"),
    ],
)
def test_what_is_missing_is_said(phone: Phone, devices: str | None, settings: dict, sentence: str):
    if devices is not None:
        phone.attach(devices)
    with pytest.raises(UnsupportedError, match=sentence):
        phone.measure(**settings)


def test_other_output_of_the_tool_is_no_measurement():
    with pytest.raises(UnsupportedError, match="gave no timings; it said last: Segmentation fault"):
        parse("INFO: STARTING!\nSegmentation fault\n\n")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"thread": 2}, "benchmark: unknown key 'thread': did you mean threads?"),
        ({"runs": 0}, "benchmark: runs is 0; write a whole number, at least 1"),
        ({"device": "phone"}, "benchmark: device is 'phone'; write local or android"),
    ],
)
def test_mistakes_in_the_settings(settings: dict, sentence: str):
    with pytest.raises(ParameterError) as caught:
        read_config({"benchmark": settings})
    assert str(caught.value) == sentence


def write_onnx(path: Path, side: int) -> None:
    """y = relu(x @ W) @ V with W of shape (side, side), V of shape (side, 2)."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    shapes = {"W": (side, side), "V": (side, 2)}
    weights = [numpy_helper.from_array(rng.random(shape, np.float32), name) for name, shape in shapes.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "W"], ["a"], "big"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "V"], ["y"], "small"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", side])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_the_operators_of_an_onnx_file(tmp_path: Path):
    write_onnx(tmp_path / "x.onnx", 1500)
    found = {entry.name: entry for entry in operator_times(tmp_path / "x.onnx", runs=5)}
    assert {name: entry.type for name, entry in found.items()} == {"big": "MatMul", "relu": "Relu", "small": "MatMul"}
    assert found["big"].ms > 5 * found["small"].ms > 0


def test_the_operators_of_a_tflite_file(tmp_path: Path):
    import tensorflow as tf

    weights = tf.random.stateless_normal([1500, 1500], [1, 2])

    @tf.function(input_signature=[tf.TensorSpec([None, 1500], tf.float32)])
    def model(x):
        return tf.nn.softmax(
            tf.while_loop(lambda y: tf.reduce_sum(y) > 1e30, lambda y: [y * 0.5], [tf.matmul(x, weights)])[0]
        )

    converter = tf.lite.TFLiteConverter.from_concrete_functions([model.get_concrete_function()], tf.Module())
    path = tmp_path / "x.tflite"
    path.write_bytes(converter.convert())
    found = {entry.type: entry.ms for entry in operator_times(path, runs=5)}
    assert found["FULLY_CONNECTED"] > found["SOFTMAX"] > 0
    assert found["WHILE"] is None  # its body lies in another subgraph


def entry(target: str, median: float | None, **values) -> dict:
    operators = [{"type": "Conv", "name": "a/b", "ms": 3.0}, {"type": "Add", "name": "c", "ms": None}]
    operators += [{"type": "Conv", "name": "d", "ms": 1.0}]
    figures = {"init_ms": 1.0, "first_ms": 2.0, "p90_ms": 6.0, "p99_ms": 7.0, "throughput_per_second": 200.0}
    return {
        "target": target,
        "file": {"sha256": "0" * 64, "bytes": 1_000_000},
        "device": {"kind": "local", "name": "cpu"},
        "threads": 1,
        "median_ms": median,
        "peak_memory_mb": 50.0,
        "operators_measured": "each operator alone",
        "operators": operators,
        **figures,
        **values,
    }


def test_the_page_compares_files_and_names_their_operators():
    entries = [entry("converted/b.tflite", None, mean_ms=9.0, p90_ms=None), entry("converted/a.onnx", 5.0)]
    assert operators_by_type(entries[0]) == [("Conv", 2, 4.0), ("Add", 1, 0.0)]
    html = compared_page(entries)
    assert html.index("a.onnx") < html.index("b.tflite") and html.count("<svg") == 4
    assert "a.onnx 5 ms; b.tflite 9 ms" in html and "not run alone: 1" in html
    assert 'src="' not in html and "<link" not in html and "<script" not in html
    assert "Nothing measured yet" in compared_page([])


def test_snakemake_measures_and_compares(project: Project):
    (project.folder / "models" / "tiny.pbtxt").write_text(linear())
    config = {"benchmark": {"runs": "4", "warmup": 1, "threads": 2}}
    run = project.snakemake("benchmarks/tiny.onnx.json", "reports/profile.html", config=config)
    assert run.returncode == 0, run.stderr
    found = json.loads((project.folder / "benchmarks" / "tiny.onnx.json").read_text())
    assert (found["runs"], found["warmup"], found["threads"], found["target"]) == (4, 1, 2, "converted/tiny.onnx")
    assert found["median_ms"] > 0 and found["init_ms"] > 0 and found["first_ms"] > 0
    assert [operator["type"] for operator in found["operators"]] == ["MatMul"]
    assert (project.folder / "reports" / "profile.html").is_file()
    config["benchmark"]["device"] = "android"
    run = project.snakemake("benchmarks/tiny.onnx.json", config=config)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert last_line(run) == (
        "benchmarks/tiny.onnx.json: converted/tiny.onnx: phones run .tflite files; leave benchmark.device out for the others"
    )
