"""Preloaded processes: steps run in their forks; where none answers, in plain ones; nothing outlives the run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from converter.running import fork_client

STEP = ROOT / "workflow" / "bin" / "step"
SCRIPTS = {
    "import_parent": "import os, sys; print(os.getppid(), os.getcwd(), os.environ['WORD'], sys.argv[1:]); sys.exit(7)",
    "import_crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "import_sleep": "import os, pathlib, time; pathlib.Path('child').write_text(str(os.getpid())); time.sleep(600)",
}
# The server with scripts of the test's own, and without a framework, whose import is all that is left out.
SERVER = """
import sys
from pathlib import Path
from converter.running import fork_server
fork_server.KINDS["tensorflow"] = ()
fork_server.SCRIPTS = Path(sys.argv[2])
fork_server.serve("tensorflow", int(sys.argv[1]))
"""


def wait_for(condition: Callable[[], object]) -> object:
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 s")


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Server:
    def __init__(self, folder: Path) -> None:
        self.folder, self.sockets = folder, folder / "sockets"
        (folder / "scripts").mkdir()
        self.sockets.mkdir()
        for name, text in SCRIPTS.items():
            (folder / "scripts" / f"{name}.py").write_text(text)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.sockets / "tensorflow"))
            listening.listen()
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(listening.fileno()), str(folder / "scripts")],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT / "workflow")},
            )
        self.environment = {**os.environ, "CONVERTER_PRELOADED": str(self.sockets), "WORD": "from the client"}

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-S", "-E", str(STEP), *arguments]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, **options)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=60)
        return process.returncode, output, errors

    def sleeping_child(self) -> int:
        def started() -> int | None:
            path = self.folder / "child"
            return int(path.read_text()) if path.exists() and path.read_text() else None

        return wait_for(started)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # A socket's path is at most 107 characters long.
    folder = tmp_path if len(str(tmp_path)) < 80 else Path(os.path.relpath(tmp_path))
    server = Server(folder)
    yield server
    server.process.kill()
    server.process.wait()


def test_a_step_is_a_fork_with_the_clients_folder_environment_and_arguments(server: Server):
    status, output, _ = server.run("@tensorflow", "import_parent", "a b", "--c=d")
    assert status == 7
    assert output == f"{server.process.pid} {server.folder} from the client ['a b', '--c=d']\n"


def test_a_crash_ends_its_own_step_only(server: Server):
    status, _, errors = server.run("@tensorflow", "import_crash")
    assert status == 128 + signal.SIGSEGV and errors == "the step crashed (SIGSEGV)\n"
    assert server.run("@tensorflow", "import_parent")[0] == 7
    assert server.process.poll() is None


def test_a_client_that_is_killed_takes_its_step_along(server: Server):
    client = server.start("@tensorflow", "import_sleep")
    child = server.sleeping_child()
    client.kill()
    client.communicate()
    wait_for(lambda: not is_alive(child))
    assert server.run("@tensorflow", "import_parent")[0] == 7


def test_a_step_whose_shell_was_killed_before_it_looked_does_nothing(server: Server):
    """Python needs some 20 ms until the step can ask the kernel for a signal at its shell's death."""
    with subprocess.Popen(["true"]) as shell:
        shell.wait()
    server.environment["CONVERTER_SHELL"] = str(shell.pid)
    assert server.run("@tensorflow", "import_parent") == (1, "", "the rule's shell is gone\n")
    server.environment["CONVERTER_SHELL"] = str(os.getpid())
    assert server.run("@tensorflow", "import_parent")[0] == 7


def test_nothing_is_left_when_snakemake_is_gone(server: Server):
    """Its death, of whatever kind, closes the pipe that is the server's standard input."""
    client = server.start("@tensorflow", "import_sleep")
    child = server.sleeping_child()
    server.process.stdin.close()
    assert server.process.wait(timeout=30) == 0
    wait_for(lambda: not is_alive(child))
    assert client.wait(timeout=30) != 0
    client.communicate()
    assert not server.sockets.exists()


def test_a_server_that_is_killed_takes_its_steps_along(server: Server):
    client = server.start("@tensorflow", "import_sleep")
    child = server.sleeping_child()
    server.process.kill()
    _, errors = client.communicate(timeout=30)
    assert client.returncode == 1 and errors == "the preloaded process ended before the step did\n"
    wait_for(lambda: not is_alive(child))


def test_steps_compute_in_one_thread_as_in_a_rules_own_shell(monkeypatch: pytest.MonkeyPatch):
    """OpenMP counts its threads when torch is imported, before any step's environment is known."""
    monkeypatch.delenv("CONVERTER_PRELOADED", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    hubs = [f"models/x-keras-y.pt intermediate/{name}-pytorch-0123456789ab" for name in ("x-keras-y", "c")]
    (process,) = fork_client.start([f"@torch import_pytorch {hub}" for hub in hubs])
    try:
        environment = Path(f"/proc/{process.pid}/environ")  # empty until the new program is there
        assert b"OMP_NUM_THREADS=1" in wait_for(environment.read_bytes).split(b"\0")
    finally:
        process.stdin.close()
        process.wait(timeout=120)
        monkeypatch.delenv("CONVERTER_PRELOADED")


@pytest.mark.parametrize("state", ["no folder", "no listener"])
def test_without_a_server_a_plain_process_runs_the_step(server: Server, state: str):
    server.process.kill()
    server.process.wait()
    if state == "no folder":
        server.environment["CONVERTER_PRELOADED"] = str(server.folder / "elsewhere")
    status, output, _ = server.run("@tensorflow", "import_protobuf", "--help")
    assert status == 0 and "usage: import_protobuf" in output


def test_nothing_is_imported_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of strangers may lie there, with the names of what libraries import."""
    for name in ("torch", "tensorflow", "pandas", "triton"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    process = fork_client._start("torch", str(tmp_path / "socket"))
    process.stdin.close()  # it ends when it has imported everything
    assert process.wait(timeout=120) == 0
    assert not (tmp_path / "pwned").exists()
