"""The original tool's defects, one test each: one job list that ran into all of them there, and what comes of it here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

CHECKPOINT, FROM_CHECKPOINT = "runs; rm -rf $HOME/model-100.meta", 'out dir/it\'s; "100".onnx'
ROWS = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
JOBS = [
    {"convert_from": CHECKPOINT, "convert_to": FROM_CHECKPOINT, "output_nodes": "scores:0"},
    {"convert_from": CHECKPOINT, "convert_to": "out/variables.pb", "output_nodes": "scores:0", "frozen": "False"},
    {
        "convert_from": "two.pb",
        "convert_to": "out/second.tflite",
        "output_nodes": "top:1",
        "quantization": {"optimization": "none", "type": "float32"},
    },
    {
        "convert_from": "scaler.pt",
        "convert_to": "out/scaler.onnx",
        "network_script": "happy.py",
        "network_name": "Scaler",
        "input_shape": "1,3,8,8",
    },
    {
        "convert_from": "scaler.pt",
        "convert_to": "out/scaler.tflite",
        "network_script": "happy.py",
        "network_name": "Scaler",
        "input_shape": "1,3,8,8",
    },
    {"convert_from": "missing.h5", "convert_to": "out/missing.onnx"},
    {"convert_from": "two.pb", "convert_to": "out/skipped.onnx", "output_nodes": "top:0", "skip": True},
]
NETWORK = """\
import torch


class Scaler(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(3, momentum=0.9)
        self.up = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, image):
        return self.up(self.norm(image))
"""


def write_checkpoints(folder: Path) -> dict[int, np.ndarray]:
    """model-100 and model-200, whose `checkpoint` file names the second. Returns what each answers to ROWS."""
    import tensorflow as tf

    v1, answers = tf.compat.v1, {}
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        weights = v1.get_variable("w", initializer=np.random.default_rng(2).standard_normal((4, 3)).astype("float32"))
        scores = tf.nn.softmax(x @ weights, name="scores")
        step = weights.assign(weights[::-1] * 2.0)
        saver = v1.train.Saver()
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for number in (100, 200):
                saver.save(session, str(folder / "model"), global_step=number)
                answers[number] = session.run(scores, {x: ROWS})
                session.run(step)
    assert "model-200" in (folder / "checkpoint").read_text()
    return answers


def write_two_outputs(path: Path) -> None:
    """top:0, the two largest of four numbers, and top:1, where they stand."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.math.top_k(tf.compat.v1.placeholder(tf.float32, [None, 4], name="x"), 2, name="top")
    path.write_bytes(graph.as_graph_def().SerializeToString())


def write_network(folder: Path) -> np.ndarray:
    """A whole module in training mode. Returns what it answers to IMAGES in eval mode."""
    import torch

    (folder / "happy.py").write_text(NETWORK)
    spec = importlib.util.spec_from_file_location("happy", folder / "happy.py")
    happy = sys.modules["happy"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(happy)
    module = happy.Scaler()
    torch.nn.init.uniform_(module.norm.running_mean, 1, 2, generator=torch.Generator().manual_seed(0))
    torch.save(module.train(), folder / "scaler.pt")
    del sys.modules["happy"]
    with torch.no_grad():
        return module.eval()(torch.from_numpy(IMAGES)).numpy()


class Outcome:
    """The run of JOBS in a folder that is called as no folder should be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        checkpoints = (folder / CHECKPOINT).parent
        checkpoints.mkdir(parents=True)
        self.by_step = write_checkpoints(checkpoints)
        self.scaled = write_network(folder)
        write_two_outputs(folder / "two.pb")
        (folder / "tmp.h5").write_text("the user's own")
        (folder / "jobs.json").write_text(json.dumps(JOBS))
        self.run = self.dlconvert("-f", "jobs.json")
        print(self.run.stdout, self.run.stderr)

    def dlconvert(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "aup.dlconvert", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
            capture_output=True,
            text=True,
            timeout=900,
        )

    def report(self, target: str) -> dict:
        return json.loads((self.folder / "reports" / f"{target}.json").read_text())

    def onnx(self, target: str, array: np.ndarray) -> np.ndarray:
        import onnxruntime

        session = onnxruntime.InferenceSession(self.folder / target, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: array})[0]

    def tflite(self, target: str, array: np.ndarray) -> list[np.ndarray]:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(self.folder / target))
        (entry,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(entry["index"], array.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return Outcome(tmp_path_factory.mktemp("a user's; folder"))


def test_a_checkpoint_is_converted_with_its_own_weights(outcome: Outcome):
    """model-100.meta came out with step 200's, which the `checkpoint` file beside it names."""
    answer = outcome.onnx(FROM_CHECKPOINT, ROWS)
    np.testing.assert_allclose(answer, outcome.by_step[100], atol=1e-6)
    assert np.abs(answer - outcome.by_step[200]).max() > 0.1


def test_upsampling_is_right_at_the_default_opset(outcome: Outcome):
    """Opset 9 was written, where Resize knows no half pixels: wrong, and nothing said so."""
    np.testing.assert_allclose(outcome.onnx("out/scaler.onnx", IMAGES), outcome.scaled, atol=1e-5)
    report = outcome.report("out/scaler.onnx")
    assert report["opset"] == 11 and report["opset_reason"]


def test_an_output_other_than_the_first_keeps_its_index(outcome: Outcome):
    """TensorFlow Lite files got output 0 of a node, whatever index its name had."""
    (places,) = outcome.tflite("out/second.tflite", ROWS)
    assert places.dtype == np.int32
    np.testing.assert_array_equal(places, np.argsort(-ROWS, axis=1)[:, :2])


def test_frozen_false_as_a_string(outcome: Outcome):
    """The text "False" counted as true."""
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef.FromString((outcome.folder / "out/variables.pb").read_bytes())
    assert {"VarHandleOp", "VariableV2"} & {node.op for node in graph.node}
    assert outcome.report("out/variables.pb")["status"] == "unverified"


def test_the_module_is_in_eval_mode_before_it_sees_an_input(outcome: Outcome):
    """A pass over noise in training mode changed the statistics of BatchNorm that the file then had."""
    (answer,) = outcome.tflite("out/scaler.tflite", IMAGES.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(answer.transpose(0, 3, 1, 2), outcome.scaled, atol=1e-5)


def test_the_exit_status_says_that_a_job_failed(outcome: Outcome):
    """It was 0 always."""
    assert outcome.run.returncode == 1
    failed = [line.split()[0] for line in outcome.run.stdout.splitlines() if " failed " in line]
    assert failed == ["out/missing.onnx"]


def test_paths_are_not_read_by_a_shell(outcome: Outcome):
    """Commands were put together as text: `;` ended one, a space split a path."""
    made = {str(path.relative_to(outcome.folder)) for path in outcome.folder.glob("out*/*")}
    assert made == {job["convert_to"] for job in JOBS[:5]}


def test_nothing_is_written_over_in_the_working_directory(outcome: Outcome):
    """PyTorch to TFLite went by way of a file tmp.h5 there."""
    assert (outcome.folder / "tmp.h5").read_text() == "the user's own"
    assert outcome.report("out/scaler.tflite")["status"] == "verified"


def test_a_script_whose_name_ends_in_the_letters_p_and_y(outcome: Outcome):
    """.rstrip(".py") took letters, not the ending: happy.py was imported as "ha"."""
    assert outcome.report("out/scaler.onnx")["parameters"]["network_script"] == "happy.py"
    assert outcome.report("out/scaler.onnx")["status"] == "verified"


def test_type_float32(outcome: Outcome):
    """Its own page's word; the program knew "float" only."""
    report = outcome.report("out/second.tflite")
    assert report["status"] == "verified" and report["parameters"]["quantization"]["type"] == "float32"


def test_a_single_dictionary(outcome: Outcome):
    """What the page shows for -f and -d; the program took lists only."""
    text = json.dumps(JOBS[0])
    (outcome.folder / "one.json").write_text(text)
    for arguments in (("-f", "one.json"), ("-d", text)):
        run = outcome.dlconvert(*arguments, "--dry-run")
        assert run.returncode == 0, run.stderr
        assert [line.startswith(FROM_CHECKPOINT) for line in run.stdout.splitlines()] == [False, True]


def test_skip_as_a_json_value(outcome: Outcome):
    """The program compared with the text "True"."""
    assert not (outcome.folder / "out/skipped.onnx").exists()
    assert outcome.run.stdout.splitlines()[-1].split() == ["out/skipped.onnx", "skipped"]
