"""Names and values with everything that a shell takes for its own, through the rules of every source format and target."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess

import pytest
from conftest import ROOT, Project
from test_quoting import NAME
from text_graphs import linear

from converter.planning.parameters import flags

# What a rule's function has quoted; hashes, and the names of toolchains.
_QUOTED = {
    *("params.options", "params.source", "params.target", "params.error", "params.recipe", "params.blocks"),
    *("params.bytes", "params.step", "wildcards.toolchain", "wildcards.libraries", "resources.program"),
}


def shells() -> dict[str, str]:
    """The shell command of each rule, by its first line's place."""
    found = {}
    for path in (ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))):
        text = path.read_text()
        for match in re.finditer(r"\n( +)shell:\n((?:\1 +.*\n)+)", text):
            found[f"{path.name}:{text[: match.start()].count(chr(10)) + 2}"] = match[2]
    return found


def test_every_value_in_a_shell_is_quoted() -> None:
    commands = shells()
    assert len(commands) >= 24
    for place, command in commands.items():
        for value in re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", command):
            assert value.endswith(":q") or value in _QUOTED, f"{place}: {value} is not quoted"
            assert f'"{{{value}' not in command.replace('"{resources.program} ', "") or value.endswith(":q"), place


def test_parameters_of_a_command_line() -> None:
    values = {key: f"{NAME}{key}" for key in ("network_name", "state_dict_key", "savedmodel_signature", "input_nodes")}
    text = flags(values | {"network_args": {NAME: [NAME]}})
    words = subprocess.run(
        ["sh", "-c", f'for word in {text}; do printf "%s\\0" "$word"; done'], capture_output=True, text=True, check=True
    ).stdout.split("\0")[:-1]
    assert words == shlex.split(text) and all(word.startswith("--") for word in words)
    found = dict(word[2:].split("=", 1) for word in words)
    assert {key: found[key] for key in values} == values
    assert json.loads(found["network_args"]) == {NAME: [NAME]}


@pytest.mark.slow
def test_every_source_format_and_target(project: Project) -> None:
    import keras
    import tensorflow as tf
    import torch

    models = project.folder / "models"
    names = {kind: f"{NAME} {kind}" for kind in ("graph", "keras", "saved", "meta", "torch")}
    names["torch"] = names["torch"].replace("{", "").replace("}", "")  # which a job's convert_to may not have
    for kind in ("saved", "meta"):  # TensorFlow takes these for patterns
        names[kind] = names[kind].replace("*", "").replace("\\", "")
    (models / f"{names['graph']}.pbtxt").write_text(linear())
    keras.utils.set_random_seed(1)
    x = keras.Input((4,), name="x")
    keras.Model(x, keras.layers.Dense(3)(x)).save(models / "k.keras")
    (models / "k.keras").rename(models / f"{names['keras']}.keras")
    module = tf.Module()
    module.weights = tf.Variable([[1.0, -2.0], [3.0, 0.5]])
    module.__call__ = tf.function(lambda x: tf.tanh(x @ module.weights), [tf.TensorSpec([None, 2], tf.float32, "x")])
    tf.saved_model.save(module, str(models / "saved"), signatures=module.__call__)
    shutil.copytree(models / "saved", models / "star*")
    (models / "saved").rename(models / names["saved"])
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 2), name="x")
        tf.identity(x @ v1.get_variable("w", initializer=[[1.0, 2.0], [3.0, -4.0]], use_resource=False), name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(models / "m"), write_state=False)
    for path in models.glob("m.*"):
        path.rename(models / (names["meta"] + path.name[1:]))
    torch.manual_seed(1)
    torch.save(torch.nn.Sequential(torch.nn.Linear(4, 3)), models / f"{names['torch']}.pt")
    jobs = [
        {
            "convert_from": f"models/{names['torch']}.pt",
            "convert_to": f"converted/{names['torch']}.{suffix}",
            "input_shape": "1,4",
        }
        for suffix in ("onnx", "keras")
    ]
    targets = [f"converted/{names[kind]}.onnx" for kind in ("graph", "keras", "saved", "meta")]
    targets += [job["convert_to"] for job in jobs]
    targets += [f"converted/{names['graph']}.{suffix}" for suffix in ("tflite", "dynamic.tflite")]
    targets.append(f"converted/{names['meta']}.pb")
    targets += [
        f"reports/{names['graph']}.onnx.layers.json",
        f"reports/{names['graph']}.quantization.html",
        f"reports/pages/{names['graph']}.html",
    ]
    run = project.snakemake("--cores=2", "--keep-going", *targets, "converted/star*.onnx", config={"jobs": jobs})
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    missing = [target for target in targets if not (project.folder / target).exists()]
    assert not missing, (missing, run.stderr[-3000:])
    assert "models/star*: TensorFlow takes * ? [ \\ in its name for a pattern: rename it or its folder" in run.stderr
    assert not list(project.folder.rglob("pwned"))
    logs = {str(path.relative_to(project.folder / "logs")) for path in (project.folder / "logs").rglob("*.log")}
    assert f"{names['meta']}.pb.log" in logs and f"pages/{names['graph']}.log" in logs
