"""A step has no network, writes in its own folders only, leaves no temporary files, and ends within its time and memory."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT, Project
from small_models import write_graph

from converter.run_state import lifetime
from converter.safety.sandbox import limits_for, own_directory


def run_confined(code: str, folder: Path, access: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Run `code` in a program of its own within the context `confined`, allowed to write below folder/out.

    `access`: further arguments of Access, as code.
    """
    (folder / "out").mkdir(exist_ok=True)
    program = f"""
import os, sys, time, socket, subprocess, tempfile
from pathlib import Path
from converter.safety.sandbox import Access, confined, limits_for

def attempt(action):
    try:
        return f"did {{action()}}"
    except Exception as error:
        return type(error).__name__

access = Access(writable=[Path({str(folder / "out")!r})], {access})
with confined(limits_for(0), lambda: print("out of time", flush=True), access):
{textwrap.indent(textwrap.dedent(code), "    ")}
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "workflow"), "TMPDIR": str(folder / "tmp"), **environment}
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")
def test_no_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = server.getsockname()
        run = run_confined(
            f"""
            print(attempt(lambda: socket.create_connection({address!r})))
            print(attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
            print(attempt(lambda: socket.socket(socket.AF_UNIX)))
            child = "import socket; socket.create_connection({address!r})"
            print(subprocess.run([sys.executable, "-c", child], stderr=subprocess.DEVNULL).returncode)
            """,
            tmp_path,
            access="user_code=True",  # which may start programs
        )
        assert run.stdout.split() == ["PermissionError"] * 3 + ["1"], run.stderr
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")
def test_writes_in_its_own_folders_only(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    out, theirs = tmp_path / "out", tmp_path / "theirs"
    run = run_confined(
        f"""
        out, theirs = Path({str(out)!r}), Path({str(theirs)!r})
        print(attempt(lambda: theirs.write_text("mine")))
        print(attempt(lambda: theirs.unlink()))
        print(attempt(lambda: os.truncate(theirs, 0)))
        print(attempt(lambda: theirs.with_name("new").mkdir()))
        print(attempt(lambda: os.rename(theirs, out / "taken")))
        print(attempt(lambda: os.symlink("/", theirs.with_name("link"))))
        print(attempt(lambda: (out / "new").write_text("1")))
        print(attempt(lambda: Path(tempfile.mkdtemp(), "t").write_text("1")))
        print(attempt(lambda: subprocess.run(["sh", "-c", "echo x > {theirs}"], stderr=-3).returncode))
        """,
        tmp_path,
        access="programs=[Path('/bin')]",
    )
    if "Landlock" in run.stderr:
        pytest.skip("this kernel has no Landlock")
    refused = ["PermissionError"] * 4 + ["OSError"] + ["PermissionError"]
    found = run.stdout.splitlines()
    found[4] = "OSError" if found[4] in ("OSError", "PermissionError") else found[4]  # EXDEV or EACCES
    assert found == [*refused, "did 1", "did 1", "did 2"], run.stderr
    assert theirs.read_text() == "theirs"
    assert os.listdir(tmp_path / "tmp") == []


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")
def test_a_program_that_a_step_starts_is_bound_too(tmp_path: Path) -> None:
    """As a legacy environment's: it runs, reads what the step may read, and ends."""
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "given").write_text("given")
    child = f"""
import os, socket
from pathlib import Path
def attempt(action):
    try:
        return f"did {{action()}}"
    except OSError as error:
        return type(error).__name__
print(attempt(Path({str(tmp_path / "given")!r}).read_text))
print(attempt(Path({str(tmp_path / "theirs")!r}).read_text))
print(attempt(Path("/etc/passwd").read_text))
print(attempt(lambda: Path({str(tmp_path / "new")!r}).write_text("")))
print(attempt(lambda: os.kill({os.getpid()}, 0)))
print(attempt(socket.socket))
print(attempt(lambda: Path({str(tmp_path / "out" / "new")!r}).write_text("1")))
"""
    run = run_confined(
        f"""
        process = subprocess.Popen([sys.executable, "-c", {child!r}])
        print(process.wait())
        sleeping = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        sleeping.kill()
        print(sleeping.wait())
        """,
        tmp_path,
        access=f"readable=[Path({str(tmp_path / 'given')!r})], programs=[Path(sys.prefix), Path(sys.base_prefix)]",
    )
    if "Landlock" in run.stderr:
        pytest.skip("this kernel has no Landlock")
    assert sorted(run.stdout.splitlines()) == sorted(["did given", *["PermissionError"] * 5, "did 1", "0", "-9"]), (
        run.stderr
    )


def test_killed_steps_leave_nothing_for_long(tmp_path: Path) -> None:
    run = run_confined("Path(tempfile.gettempdir(), 'big').write_text('x'); os.kill(os.getpid(), 9)", tmp_path)
    assert run.returncode == -9 and len(list((tmp_path / "tmp").glob("*/big"))) == 1
    assert run_confined("pass", tmp_path).returncode == 0
    assert os.listdir(tmp_path / "tmp") == []


def test_a_temporary_directory_in_use_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another step comes and goes meanwhile."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with own_directory() as kept:
        code = "from converter.safety.sandbox import own_directory\nwith own_directory() as d: print(d)"
        environ = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT / "workflow")}
        run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
        assert run.returncode == 0 and run.stdout.strip() != kept
        assert os.listdir(tmp_path) == [Path(kept).name]
    assert os.listdir(tmp_path) == []


def test_time(tmp_path: Path) -> None:
    run = run_confined("time.sleep(50)", tmp_path, CONVERTER_STEP_SECONDS="1")
    assert run.returncode == 1 and run.stdout == "out of time\n"
    assert os.listdir(tmp_path / "tmp") == []


def test_memory(tmp_path: Path) -> None:
    code = "print(attempt(lambda: len(bytearray(1 << 30))))"
    assert run_confined(code, tmp_path, CONVERTER_STEP_MEMORY_MB="500").stdout == "MemoryError\n"
    assert run_confined(code, tmp_path).stdout == f"did {1 << 30}\n"


def test_limits_grow_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = limits_for(0), limits_for(500_000_000)
    assert large.seconds == small.seconds + 5000 and large.memory == small.memory + 24 * 500_000_000
    monkeypatch.setenv("CONVERTER_STEP_SECONDS", "0")
    assert limits_for(10).seconds == 0


def closing_line(run: subprocess.CompletedProcess) -> str:
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    return run.stderr.strip().splitlines()[-1]


def test_a_model_that_never_ends(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
        endless = tf.while_loop(lambda value: tf.reduce_sum(value) < 1e30, lambda value: value * 1.0, [x])[0]
        tf.identity(endless, name="y")
    (project.folder / "models" / "endless.pb").write_bytes(graph.as_graph_def().SerializeToString())
    write_graph(project.folder / "models" / "tiny.pb")
    monkeypatch.setenv("CONVERTER_STEP_SECONDS", "15")
    run = project.snakemake("converted/endless.onnx", "converted/tiny.onnx")
    assert closing_line(run) == (
        "converted/endless.onnx: import_protobuf did not end within 15 s: CONVERTER_STEP_SECONDS in the environment gives it more"
    )
    assert project.converted() == ["tiny.onnx"]
    assert project.report("endless.onnx")["status"] == "failed"


def test_a_step_over_its_memory(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence; the next run, with more, makes the file."""
    write_graph(project.folder / "models" / "tiny.pb")
    monkeypatch.setenv("CONVERTER_STEP_MEMORY_MB", "100")
    line = closing_line(project.snakemake("converted/tiny.onnx"))
    assert line.startswith("converted/tiny.onnx: import_protobuf needs more memory") and project.converted() == []
    assert line.endswith("CONVERTER_STEP_MEMORY_MB in the environment gives it more")
    monkeypatch.delenv("CONVERTER_STEP_MEMORY_MB")
    run = project.snakemake("converted/tiny.onnx")
    assert run.returncode == 0 and project.report("tiny.onnx")["status"] == "verified"


def test_a_script_has_no_network_either(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "net.py").write_text(
        "import socket, torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(4, 3)\n"
        "        open('written-by-script', 'w').close()\n"
        "        socket.create_connection(('127.0.0.1', 9))\n"
    )
    torch.save(torch.nn.Linear(4, 3).state_dict(), tmp_path / "net.pt")
    command = [sys.executable, str(ROOT / "scripts" / "import_pytorch.py"), "--input_shape=1,4", "net.pt", "hub"]
    command[2:2] = ["--network_script=net.py", "--network_name=Net"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    error = json.loads((tmp_path / "hub" / "hub.json").read_text())["error"]
    assert error["kind"] == "ParameterError" and "PermissionError" in error["message"], error
    assert (tmp_path / "written-by-script").exists()  # the user's own code may write where the user may


def test_onnxruntime_reports_nothing(tmp_path: Path) -> None:
    """Its import leaves the note of a session that it would report, unless told not to."""
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environ |= {"PYTHONPATH": str(ROOT / "workflow"), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import converter, onnxruntime"], env=environ, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_watching_thread_that_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too little memory: the step neither waits for it without end, nor goes on with the rights it may still have."""
    monkeypatch.setenv("CONVERTER_RUN", str(os.getpid()))
    monkeypatch.setattr(lifetime, "_watches", [])
    monkeypatch.setattr(lifetime, "_ANSWER_SECONDS", 0.2)
    lifetime.end_with_run()
    with lifetime.unwatched():  # it lives, and answers
        pass
    with lifetime.unwatched(), monkeypatch.context() as patch:
        patch.setattr(lifetime._thread, "start_new_thread", lambda function, arguments: None)
        lifetime._watches[0].start()
        with pytest.raises(MemoryError, match="watches the run"), lifetime.unwatched():
            raise AssertionError("the step went on")
