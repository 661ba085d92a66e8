"""A marker in every name that a file can hold, and in what it prints: no output has it as HTML or as a terminal's command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from conftest import Project
from text_graphs import linear

from converter.running.logs import clean_logs

MARKER = "<script>alert(1)<_script>"
RAW = "\x1b]0;title\x07\u202e"
# What may not be in a file of that kind, besides what a terminal obeys.
SOUND = ("named.keras", "saved")
HTML = {".html": "<script>alert", ".md": "<script>alert"}


def keras_models(folder: Path) -> None:
    """The second one with names of layers that TensorFlow does not take."""
    import keras

    for name, marked in (("named.keras", ""), ("layers.keras", MARKER)):
        keras.utils.set_random_seed(1)
        x = keras.Input((4,), name=f"in{MARKER}{RAW}")
        y = keras.layers.Dense(3, name=f"layer{marked}")(x)
        keras.Model(x, {f"out{MARKER}{RAW}": y}, name=f"model{marked}").save(folder / name)


def saved_model(path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.weights = tf.Variable(np.eye(2, dtype=np.float32) * 2, name="w>")

    def call(**inputs):
        (x,) = inputs.values()
        tf.print(f"printed{MARKER}{RAW}")
        return {f"out{MARKER}{RAW}": tf.tanh(x @ module.weights)}

    spec = tf.TensorSpec([None, 2], tf.float32, "x")
    module.call = tf.function(lambda x: call(x=x), [spec])
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.call})


def torch_script(path: Path) -> None:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 3)

        def forward(self, x):
            print("printed<script>alert(1)\x1b]0;title\x07\u202e")
            return torch.tanh(self.layer(x))

    torch.manual_seed(1)
    torch.jit.script(Net()).save(str(path), _extra_files={f"extra{MARKER}": MARKER})


def graphs(folder: Path) -> None:
    """An operator, a node, an attribute's text and a function's name; none of them is one that TensorFlow takes."""
    node = 'node {{ name: "x" op: "Placeholder" attr {{ key: "dtype" value {{ type: DT_FLOAT }} }} }}\nnode {{ {0} }}\n'
    text = json.dumps(f"{MARKER}\x1b\u202e")[1:-1].replace("\\u001b", "\\033").replace("\\u202e", "\u202e")
    (folder / "operator.pbtxt").write_text(node.format(f'name: "y" op: "{text}" input: "x"'))
    (folder / "node.pbtxt").write_text(node.format(f'name: "{text}" op: "Tanh" input: "x"'))
    (folder / "input.pbtxt").write_text(node.format(f'name: "y" op: "Tanh" input: "{text}"'))
    (folder / f"good{MARKER}.pbtxt").write_text(linear())


def test_a_marker_in_every_name(project: Project) -> None:
    import torch

    models = project.folder / "models"
    keras_models(models)
    saved_model(models / "saved")
    torch_script(models / "script.pt")
    torch.save({f"weight{MARKER}{RAW}": torch.ones(2)}, models / "state.pt")
    graphs(models)
    jobs = [
        {"convert_from": f"models/{source}", "convert_to": f"converted/{Path(source).stem}.{suffix}", **more}
        for source, suffix, more in [
            *(
                (source, "onnx", {})
                for source in (*SOUND, "layers.keras", "operator.pbtxt", "node.pbtxt", "input.pbtxt")
            ),
            *((source, "tflite", {}) for source in SOUND),
            ("script.pt", "onnx", {"input_shape": "1,4"}),
            ("state.pt", "onnx", {"input_shape": "1,4"}),
            (f"good{MARKER}.pbtxt", "onnx", {"output_nodes": f"out{MARKER}{RAW}"}),
        ]
    ]
    said = []
    for targets in (
        [*(job["convert_to"] for job in jobs), "reports/named.onnx.layers.json", "reports/named.inspect.json"],
        ["reports/coverage.html", "reports/named.quantization.html", "reports/pages/named.html", "reports/pages/saved.html"],
    ):  # fmt: skip
        run = project.snakemake("--cores=2", "--keep-going", *targets, config={"jobs": jobs})
        assert "Traceback" not in run.stderr, run.stderr[-3000:]
        said += [run.stdout, run.stderr]
    made = {"named.onnx", "named.tflite", "saved.onnx", "saved.tflite", "script.onnx"}
    assert made <= set(project.converted()), (project.converted(), said[1][-3000:])
    texts = {f"terminal {number}": text for number, text in enumerate(said)}
    for folder in ("reports", "logs"):
        for path in (project.folder / folder).rglob("*"):
            if path.is_file():
                texts[str(path.relative_to(project.folder))] = path.read_bytes().decode("utf-8")
    assert sum("alert(1)" in text for text in texts.values()) >= 8
    for kind in ("reports/coverage.html", "reports/coverage.md", "reports/coverage.csv", "reports/pages/named.html"):
        assert "alert" in texts[kind], kind
    for name, text in texts.items():
        for line in text.split("\n"):
            assert line.replace("\t", "").isprintable(), (name, line[:300])
        forbidden = HTML.get(Path(name).suffix)
        assert forbidden is None or forbidden not in text, name


def test_logs_are_cleaned(tmp_path: Path, monkeypatch) -> None:
    """Those of this run alone, bytes that are no text too, and nothing where a link leads."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "logs" / "import"
    folder.mkdir(parents=True)
    (folder / "a.log").write_bytes(b"one\ttwo\n\x1b[31mred\r\xff\xe2\x80\xae\n")
    (folder / "plain.log").write_text("größe\n")
    (tmp_path / "outside").write_bytes(b"\x1b")
    (folder / "link.log").symlink_to(tmp_path / "outside")
    since = (folder / "a.log").stat().st_mtime
    clean_logs(since + 10)
    assert b"\x1b" in (folder / "a.log").read_bytes()
    clean_logs(since)
    assert (folder / "a.log").read_text() == "one\ttwo\n\\x1b[31mred\\r\\xff\\u202e\n"
    assert (folder / "plain.log").read_text() == "größe\n" and (tmp_path / "outside").read_bytes() == b"\x1b"
