"""The command line without a conversion: job lists, flags, progress; and the example lists' plans."""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from aup.dlconvert import __main__ as dlconvert
from aup.dlconvert import one_conversion
from aup.dlconvert.job_list import parse_jobs, read_jobs
from converter.errors import ParameterError
from converter.jobs import configure
from converter.planning.planner import Planner
from converter.running.progress import Progress

COMMANDS = {
    "checkpoint_to_onnx": "--input_nodes --output_nodes --input_shape --opset",
    "checkpoint_to_pb": "--output_nodes --frozen --nofrozen",
    "checkpoint_to_tflite": "--input_nodes --output_nodes --input_shape --opt --type --ops --load -d",
    "keras_to_onnx": "--opset",
    "keras_to_pb": "--output_nodes --frozen --nofrozen",
    "keras_to_tflite": "--opt --type --ops --load -d",
    "pb_to_onnx": "--input_nodes --output_nodes --input_shape --opset",
    "pb_to_tflite": "--input_nodes --output_nodes --input_shape --opt --type --ops --load -d",
    "pytorch_to_keras": "--net --net_name --input_shape",
    "pytorch_to_onnx": "--net --net_name --input_shape --opset",
    "pytorch_to_tflite": "--net --net_name --input_shape --opt --type --ops --load -d",
    "savedmodel_to_onnx": "--tag --signature --opset",
    "savedmodel_to_tflite": "--tag --signature --opt --type --ops --load -d",
}
LISTS = sorted((ROOT / "configs" / "jobs").glob("*.json"))


def plan(job: dict) -> object:
    """The plan of a single job whose source exists."""
    jobs = configure([job])
    return Planner(jobs.config).require(Planner.report_name(jobs.targets[0][0]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- job lists


@pytest.mark.parametrize(
    "text",
    [
        '{"convert_from": "a,}.h5", "convert_to": "b.onnx",}',
        '[{"convert_from": "a,}.h5", "convert_to": "b.onnx"},\n]',
        ' [ {"convert_from":"a,}.h5","convert_to":"b.onnx" , } , ] ',
    ],
)
def test_single_job_and_list_with_trailing_commas(text: str):
    assert parse_jobs(text, "-d") == [{"convert_from": "a,}.h5", "convert_to": "b.onnx"}]


def test_yaml_and_byte_order_mark(folder: Path):
    (folder / "a.yaml").write_text("- {convert_from: a.h5, convert_to: b.onnx}\n")
    (folder / "b.json").write_bytes(b'\xef\xbb\xbf{"convert_from": "a.h5", "convert_to": "b.onnx"}')
    assert read_jobs(Path("a.yaml")) == read_jobs(Path("b.json")) == [{"convert_from": "a.h5", "convert_to": "b.onnx"}]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "{'convert_from': 1}",
            "-d is not JSON: Expecting property name enclosed in double quotes at line 1, column 2",
        ),
        ("[]", "-d holds no jobs"),
        ("3", "-d holds no jobs"),
        ('{"skip": true, "skip": false}', "-d: 'skip' stands twice in one mapping"),
    ],
)
def test_what_is_no_job_list(text: str, sentence: str):
    with pytest.raises(ParameterError) as raised:
        parse_jobs(text, "-d")
    assert str(raised.value).startswith(sentence)


def test_a_missing_list_is_one_sentence():
    with pytest.raises(ParameterError, match=r"^nowhere.json: the job list cannot be read: No such file"):
        read_jobs(Path("nowhere.json"))


# --- duplicates


@pytest.mark.parametrize("second", ["out/x.onnx", "./out//x.onnx", "{here}/out/x.onnx", "link/x.onnx"])
def test_one_file_under_two_names(folder: Path, second: str):
    (folder / "out").mkdir()
    (folder / "link").symlink_to("out")
    jobs = [{"convert_from": "a.h5", "convert_to": name.format(here=folder)} for name in ("out/x.onnx", second)]
    with pytest.raises(ParameterError, match="^jobs 1 and 2 both write ") as raised:
        configure(jobs)
    assert "\n" not in str(raised.value)


def test_two_files_with_one_report(folder: Path):
    jobs = [{"convert_from": "a.h5", "convert_to": name} for name in ("x.onnx", "converted/x.onnx")]
    with pytest.raises(ParameterError, match="jobs 1 and 2 both have their report at reports/x.onnx.json"):
        configure(jobs)


@pytest.mark.parametrize("skip", [True, "True", "true"])
def test_a_skipped_job_is_no_duplicate_in_either_order(skip: object):
    done, skipped = ({"convert_from": "a.h5", "convert_to": "x.onnx"} for _ in range(2))
    skipped |= {"skip": skip, "onnx_opset": 9}
    for jobs in ([done, skipped], [skipped, done]):
        checked = configure(jobs)
        assert [left for _, left in checked.targets] == [job is skipped for job in jobs]
        assert "onnx_opset" not in checked.config.jobs["x.onnx"]


# --- parameters that the original's own page could not set


@pytest.mark.parametrize("kind", ["float32", "float"])
def test_type_float32(folder: Path, kind: str):
    Path("a.h5").touch()
    job = {"convert_from": "a.h5", "convert_to": "a.tflite", "quantization": {"optimization": "none", "type": kind}}
    assert plan(job).parameters["quantization"] == {"optimization": "none", "opsset": "tflite", "type": "float32"}


@pytest.mark.parametrize("frozen", ["False", "false", False])
def test_frozen_false(folder: Path, frozen: object):
    Path("a.h5").touch()
    assert plan({"convert_from": "a.h5", "convert_to": "a.pb", "frozen": frozen}).parameters == {"frozen": False}


def test_a_network_script_whose_name_ends_in_py_letters(folder: Path):
    """The original stripped the letters of ".py" from the end of the name: happy.py was imported as ha."""
    from converter.importing.network_script import load_script

    Path("happy.py").write_text("class Net:\n    pass\n")
    Path("a.pt").touch()
    job = {"convert_from": "a.pt", "convert_to": "a.onnx", "network_script": "happy.py", "network_name": "Net"}
    script = plan(job).source.parameters["network_script"]
    assert script == "happy.py"
    assert "Net" in load_script(Path(script)).classes()


# --- the thirteen commands


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f"aup.dlconvert.{command}", run_name="__main__")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    flags = {word.strip("[],") for word in text.split()}
    assert flags >= {"--model", "-i", "--output", "-o", *COMMANDS[command].split()}


def flags(monkeypatch: pytest.MonkeyPatch, format: str, target: str, line: str) -> list:
    seen = []
    monkeypatch.setattr(one_conversion, "convert", lambda jobs, args: seen.append(jobs) or 0)
    assert one_conversion.main(format, target, line.split()) == 0
    return seen[0]


def test_flags_become_a_job(monkeypatch: pytest.MonkeyPatch):
    line = "--model a.meta -o b.tflite --input_nodes x:0,z --output_nodes y:0 --input_shape 1,4;1,2 "
    line += "--opt default --type int8 --ops int8 -d rep.py"
    (job,) = flags(monkeypatch, "checkpoint", "tflite", line)
    assert job == {
        "convert_from": "a.meta",
        "convert_to": "b.tflite",
        "input_nodes": "x:0,z",
        "output_nodes": "y:0",
        "input_shape": "1,4;1,2",
        "quantization": {"optimization": "default", "type": "int8", "opsset": "int8", "load": "rep.py"},
    }
    line = "-i a.pt --output b.onnx --net n.py --net_name Net --input_shape 1,3,8,8 --opset 13"
    (job,) = flags(monkeypatch, "pytorch", "onnx", line)
    assert job == {
        "convert_from": "a.pt",
        "convert_to": "b.onnx",
        "input_shape": "1,3,8,8",
        "network_script": "n.py",
        "network_name": "Net",
        "onnx_opset": "13",
    }
    (job,) = flags(monkeypatch, "savedmodel", "onnx", "-i dir -o b.onnx --tag a,b --signature s")
    assert job == {
        "convert_from": "dir",
        "convert_to": "b.onnx",
        "savedmodel_tag": "a,b",
        "savedmodel_signature": "s",
    }


@pytest.mark.parametrize(
    ("flag", "value"),
    [("", None), ("--frozen", "true"), ("--nofrozen", "false"), ("--frozen=False", "False"), ("--frozen=true", "true")],
)
def test_frozen_flags(monkeypatch: pytest.MonkeyPatch, flag: str, value: object):
    """--frozen=False too: the original's flags were those of absl."""
    (job,) = flags(monkeypatch, "keras", "pb", f"-i a.h5 -o b.pb {flag}")
    assert job.get("frozen") == value


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("-i a.h5 -o b.onnx", "pb_to_onnx reads .pb, .pbtxt, and a.h5 is a keras model: use keras_to_onnx"),
        ("-i a.pb -o b.tflite", "pb_to_onnx writes .onnx: give --output b.tflite.onnx"),
    ],
)
def test_the_wrong_command(argv: str, sentence: str, capsys: pytest.CaptureFixture):
    assert one_conversion.main("protobuf", "onnx", argv.split()) == 1
    assert capsys.readouterr().err.strip() == sentence


# --- how to run


def test_cores_reach_snakemake(folder: Path, monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr("converter.jobs._call", lambda command, *_: called.append(command) or (1, "stopped", False))
    line = ["-d", '{"convert_from": "a.h5", "convert_to": "a.onnx"}']
    assert dlconvert.main([*line, "--cores", "3"]) == 1
    assert dlconvert.main(line) == 1
    cores = [command[command.index("--cores") + 1] if "--cores" in command else None for command in called]
    assert cores == ["3", None]  # without it the profile's: all


@pytest.mark.parametrize("cores", ["0", "-1", "two"])
def test_cores_are_a_number(cores: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit, match="2"):
        dlconvert.main(["-d", "{}", f"--cores={cores}"])
    assert f"{cores!r} is not a number of cores; write 1 or more" in capsys.readouterr().err


# --- progress on a terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_with_the_current_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "70")
    stream = Terminal()
    progress = Progress(stream)
    progress.see(None)
    progress.see({"event": "run", "total": 4})
    for number in (1, 2):
        progress.see({"event": "start", "id": number, "message": f"read m{number}.h5", "output": ["x"]})
    progress.see({"event": "finish", "id": 1})
    *_, last = stream.getvalue().split("\r\x1b[K")
    assert re.fullmatch(r"\[#####\.{15}\] 1/4  0:0\d, about 0:0\d left  read m2\.h5", last)
    progress.see({"event": "start", "id": 3, "message": "write " + "n" * 100 + "\n.onnx", "output": ["x"]})
    assert all(len(line) < 70 and "\n" not in line for line in stream.getvalue().split("\r\x1b[K"))
    progress.close()
    assert stream.getvalue().endswith("\r\x1b[K")


# --- the example job lists


def make_sources(jobs: list, folder: Path) -> None:
    """Empty files: planning reads names alone."""
    for job in jobs:
        path = folder / job["convert_from"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".h5", ".pb", ".pt", ".meta"):
            path.touch()
        else:
            path.mkdir(exist_ok=True)
            (path / "saved_model.pb").touch()


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_example_lists_are_planned(path: Path, folder: Path):
    jobs = json.loads(path.read_text())
    make_sources(jobs, folder)
    checked = configure(jobs)
    planner = Planner(checked.config)
    plans = [planner.require(planner.report_name(target)) for target, _ in checked.targets]
    source, _, target = path.stem.partition("_to_")
    assert {(plan.source.format, plan.extension) for plan in plans} == {(source, target)}
    assert [skipped for _, skipped in checked.targets] == [job.get("skip", False) for job in jobs]


def test_all_ten_lists_are_there():
    assert len(LISTS) == 10
    assert sum(len(json.loads(path.read_text())) for path in LISTS) == 84


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_example_lists_in_a_dry_run(path: Path, folder: Path, capsys: pytest.CaptureFixture):
    make_sources(json.loads(path.read_text()), folder)
    assert dlconvert.main(["-f", str(path), "--dry-run"]) == 0
    statuses = [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert statuses == ["skipped" if job.get("skip") else "planned" for job in json.loads(path.read_text())]
