"""Sources that are no files, and files of any name: each is converted or refused in one sentence, none takes others along."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, Project, last_line
from text_graphs import linear

NAMES = [
    'with space', ' before', "quo'te", 'dou"ble', 'semi;colon', '$(touch pwned)', '`touch pwned`', '$HOME', 'a|b', 'a&b',
    '<a b>', 'ünïcode-模型-🙂', 'e\u0301', '-leading', '--help', '-', 'star*', 'quest?ion', '[a-z]', 'back\\slash',
    '#hash', 'per%cent', '%s%n', '~tilde', '!bang', 'tab\tname', '..dots', 'a..b', '.hidden', 'dot.dot.dot',
    'a=b', 'a:b', 'a,b', '\'"\'"\'', "x" * 120, 'con', 'None', '1e5', '\u202eabc', '<in>out', '<results>',
]  # fmt: skip
RESERVED = ["new\nline", "return\rhere", "{brace}", "{wildcards.name}", "{", "a}b", "{{}}"]
SUFFIXES = (".pb", ".pbtxt", ".h5", ".keras", ".meta", ".pt", ".pt2")


def _jobs(sources: list[str]) -> list[dict]:
    return [{"convert_from": source, "convert_to": f"converted/t{index}.onnx"} for index, source in enumerate(sources)]


def _check(project: Project, jobs: list[dict], run: subprocess.CompletedProcess) -> dict[str, str]:
    """Status by source; one sentence for every job that failed, and nothing anywhere but where it belongs."""
    assert "Traceback" not in run.stderr and "Traceback" not in run.stdout, run.stderr[-3000:]
    known = {"models", "converted", "intermediate", "reports", "logs", ".snakemake", "test-config.json"}
    assert {path.name for path in project.folder.iterdir()} == known
    assert not list(project.folder.rglob("pwned"))
    statuses = {}
    for job in jobs:
        target = job["convert_to"]
        report = project.report(target.removeprefix("converted/"))
        statuses[job["convert_from"]] = report["status"]
        sentences = [line for line in run.stderr.splitlines() if line.startswith(f"{target}: ")]
        assert len(sentences) == (report["status"] != "verified"), (job, sentences)
        assert (project.folder / target).exists() == (report["status"] == "verified"), job
        error = report.get("error") or {}
        assert "InternalError" not in str(error), report
    return statuses


@pytest.mark.slow
def test_names(project: Project):
    sources = [f"models/{name}.pbtxt" for name in NAMES]
    for source in sources:
        (project.folder / source).write_text(linear())
    sources += ["models/../models/../models/con.pbtxt", "models/./con.pbtxt", "models//con.pbtxt"]
    jobs = _jobs(sources)
    run = project.snakemake(config={"jobs": jobs})
    assert set(_check(project, jobs, run).values()) == {"verified"}
    assert run.returncode == 0


@pytest.mark.parametrize(
    "name", [*RESERVED[:3], *(pytest.param(name, marks=pytest.mark.slow) for name in RESERVED[3:])]
)
def test_reserved_names(name: str, project: Project):
    """Refused before anything begins, and in the way of nothing where nobody asks for them."""
    (project.folder / "models" / f"{name}.pbtxt").write_text(linear())
    run = project.snakemake(config={"jobs": _jobs([f"models/{name}.pbtxt"])})
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert last_line(run).startswith("job 1 (converted/t0.onnx): convert_from is ") and "braces" in last_line(run)
    assert {path.name for path in project.folder.iterdir()} == {"models", ".snakemake", "test-config.json"}
    assert project.snakemake("--dry-run", "converted/x.onnx").returncode == 0


@pytest.mark.slow
def test_no_files(project: Project):
    models = project.folder / "models"
    sources = []
    for suffix in SUFFIXES:
        (models / f"folder{suffix}").mkdir()
        (models / f"full{suffix}").mkdir()
        (models / f"full{suffix}" / f"full{suffix}").write_bytes(b"x")
        os.mkfifo(models / f"pipe{suffix}")
        (models / f"broken{suffix}").symlink_to("nothing")
        (models / f"circle{suffix}").symlink_to(f"circle{suffix}")
        (models / f"endless{suffix}").symlink_to("/dev/zero")
        (models / f"empty{suffix}").write_bytes(b"")
        (models / f"zeros{suffix}").write_bytes(bytes(5000))
        kinds = ("folder", "full", "pipe", "broken", "circle", "endless", "empty", "zeros", "missing")
        sources += [f"models/{kind}{suffix}" for kind in kinds]
    (models / "saved").mkdir()
    (models / "saved" / "saved_model.pb").write_bytes(b"x")
    for name in RESERVED:  # Snakemake must not meet them
        (models / "saved" / name).write_bytes(b"x")
    sources += [
        "models/saved",
        "models",
        ".",
        "/dev/null",
        "/proc/self/mem",
        "models/good.pbtxt/x.pb",
        "models/good.pbtxt/",
    ]
    sources += [f"models/{'x' * 300}.pb", "models/good.pbtxt/x.pb"]
    (models / "good.pbtxt").write_text(linear())
    jobs = _jobs([*sources, "models/good.pbtxt"])
    run = project.snakemake(config={"jobs": jobs})
    assert run.returncode == 1
    statuses = _check(project, jobs, run)
    verified = {source for source, status in statuses.items() if status == "verified"}
    assert verified == {"models/good.pbtxt", "models/good.pbtxt/"}  # paths are normalised


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to give its rights away")
def test_unreadable(project: Project):
    """Root without its capabilities has only the rights of the files, as any other user."""
    models = project.folder / "models"
    for suffix in SUFFIXES:
        (models / f"secret{suffix}").write_bytes(b"x")
        (models / f"secret{suffix}").chmod(0)
    (models / "closed").mkdir()
    (models / "closed" / "saved_model.pb").write_bytes(b"x")
    (models / "closed").chmod(0)
    (models / "good.pbtxt").write_text(linear())
    jobs = _jobs([*(f"models/secret{suffix}" for suffix in SUFFIXES), "models/closed", "models/good.pbtxt"])
    (project.folder / "test-config.json").write_text(json.dumps({"jobs": jobs}))
    command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "test-config.json"]
    run = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, timeout=1200)
    statuses = _check(project, jobs, run)
    assert {source for source, status in statuses.items() if status == "verified"} == {"models/good.pbtxt"}


def test_a_link_to_itself_beside_other_models(project: Project):
    """Also where nobody asks for it: all of models/ is looked through."""
    (project.folder / "models" / "good.pbtxt").write_text(linear())
    for name in ("itself.pt", "folder"):
        (project.folder / "models" / name).symlink_to(name)
    run = project.snakemake("-k", "converted/good.onnx", "converted/itself.onnx")
    assert project.converted() == ["good.onnx"], run.stderr[-3000:]
    assert "models/itself.pt is a link that leads to no file" in last_line(run) and "Traceback" not in run.stderr


def test_names_of_any_bytes_within_a_model(project: Project):
    """What is no UTF-8 is halves of characters to Python: in hashes, in the hub, in Snakemake's record of its inputs."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(tf.reshape(tf.range(12.0), (4, 3)))

    net, source = Net(), project.folder / "models" / "net"
    net.serve = tf.function(
        lambda x: {"y": x @ net.weight}, input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")]
    )
    tf.saved_model.save(net, source, signatures=net.serve)
    (project.folder / "models" / "good.pbtxt").write_text(linear())
    with open(os.fsencode(source / "assets") + b"/\xff\xfe\xed\xa0\x80", "wb") as file:
        file.write(b"asset")
    run = project.snakemake("-k", "converted/good.onnx", "converted/net.onnx")
    assert project.converted() == ["good.onnx", "net.onnx"], run.stderr[-3000:]
    assert run.returncode == 0
    again = project.snakemake("converted/net.onnx")
    assert "Nothing to be done" in again.stderr + again.stdout
