"""Code that has taken over a step gets nowhere: what it tries (sandbox_attacks.py) is refused, and does happen without."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

TESTS = ROOT / "tests"
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="the attacks are written for Linux on x86-64"
)

# An import step taken over by its source: the frame of every import, with the attacks for its work.
IMPORT = """
import json, os, sys
from pathlib import Path
sys.path[:0] = [{workflow!r}, {tests!r}]
from converter.hub.hub import Hub
from converter.running.step_runner import run_import
from sandbox_attacks import attacks, outcome

def import_model(spec, hub):
    scene = json.loads({scene!r})
    assert spec.source.read_bytes() == b"the source"
    results = {{name: outcome(attack) for name, attack in attacks(scene).items()}}
    (hub / "outcomes.json").write_text(json.dumps(results))
    return Hub(hub)

sys.exit(run_import("import_protobuf", import_model))
"""


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[dict]:
    """A user's folder with other models in it, a home with a secret, and two other processes."""
    for name in ("models", "intermediate/other", "reports", "home", "tmp", "empty", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models" / "source.pb").write_bytes(b"the source")
    for name in ("models/other.bin", "models/third.bin", "intermediate/other/hub.json", "home/secret"):
        (tmp_path / name).write_bytes(b"secret")
    victims = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    yield {
        "folder": str(tmp_path),
        "secret": str(tmp_path / "home" / "secret"),
        "source": str(tmp_path / "models" / "source.pb"),
        "hub": str(tmp_path / "out"),
        "temporary": str(tmp_path / "tmp"),
        "module": str(ROOT / "workflow" / "converter" / "hub/hub.py"),
        "victim": victims[0].pid,
        "second_victim": victims[1].pid,
        "alive": lambda: [victim.poll() is None for victim in victims],
    }
    for victim in victims:
        victim.kill()
        victim.wait()


def described(scene: dict) -> str:
    return json.dumps({key: value for key, value in scene.items() if not callable(value)})


def environment(scene: dict) -> dict[str, str]:
    folder = Path(scene["folder"])
    return {**os.environ, "HOME": str(folder / "home"), "TMPDIR": scene["temporary"], "CONVERTER_RUN": str(os.getpid())}


def test_an_import_that_is_taken_over(scene: dict) -> None:
    folder = Path(scene["folder"])
    program = IMPORT.format(workflow=str(ROOT / "workflow"), tests=str(TESTS), scene=described(scene))
    (folder / "taken_over.py").write_text(program)
    # As the rules start it: no library has threads of its own before the step begins.
    environ = environment(scene) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(folder / "taken_over.py"), scene["source"], scene["hub"]]
    run = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    if "this kernel has no" in run.stderr:
        pytest.skip("this kernel cannot confine steps")
    hub = json.loads((folder / "out" / "hub.json").read_text())
    assert hub["error"] is None, run.stderr
    outcomes = json.loads((folder / "out" / "outcomes.json").read_text())
    assert len(outcomes) > 100
    assert {name: found for name, found in outcomes.items() if found != "refused"} == {}
    assert scene["alive"]() == [True, True]
    assert (folder / "home" / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["models", "intermediate", "reports", "home", "tmp", "empty", "out", "taken_over.py"]
    )
    assert sorted(os.listdir(folder / "models")) == ["other.bin", "source.pb", "third.bin"]


def test_the_attacks_are_real(scene: dict) -> None:
    """Without confinement nearly all of them happen, or get as far as the kernel's look at their arguments."""
    folder = Path(scene["folder"])
    command = [sys.executable, str(TESTS / "sandbox_attacks.py"), described(scene), str(folder / "outcomes.json")]
    run = subprocess.run(command, cwd=folder, env=environment(scene), capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    outcomes = json.loads((folder / "outcomes.json").read_text())
    happened = [name for name, found in outcomes.items() if found == "did"]
    assert len(happened) > (50 if os.getuid() == 0 else 35), outcomes
    assert len([found for found in outcomes.values() if found != "refused"]) > 60, outcomes
    assert scene["alive"]()[1] is False  # a signal that no call for signals sent


# A measurement and an analysis taken over by the file they look at; a comparison, which starts programs of its own.
OTHERS = {
    "latency": """
import converter.profiling.latency
converter.profiling.latency.time_file = lambda *_, **__: try_all()
sys.argv[1:] = [scene["source"]]
converter.profiling.latency.main()
""",
    "analysis": """
from converter.running.analysis_runner import run_analysis
from converter.hub.hub import Hub
hub = Path(scene["hub"])
Hub(hub, framework="tensorflow").write()
def analyse(hub, job, output):
    try_all()
sys.argv[1:] = [str(hub), str(hub / "page.html"), "--target=converted/x.tflite"]
run_analysis("quantization_layers", analyse)
""",
    "check": """
import converter.commands.compare
import converter.__main__
converter.commands.compare.check = lambda *_, **__: try_all()
sys.argv[1:] = ["check", scene["source"], scene["source"]]
converter.__main__.main()
""",
}
OTHER = """
import json, os, sys
from pathlib import Path
sys.path[:0] = [{workflow!r}, {tests!r}]
from sandbox_attacks import attacks, outcome
scene = json.loads({scene!r})

def try_all():
    assert {kind!r} == "analysis" or Path(scene["source"]).read_bytes() == b"the source"
    os.write(results, json.dumps({{name: outcome(attack) for name, attack in attacks(scene).items()}}).encode())
    os._exit(0)

results = os.open("outcomes.json", os.O_WRONLY | os.O_CREAT)
"""
# What a process may do that starts programs, which are bound like itself. Signals to a group or to everybody reach those
# alone, and no error tells; of other processes it sees what `ps` shows.
WITH_PROGRAMS = {
    *("start a shell", "become a shell", "spawn a program", "fork", "fork by clone", "run from memory"),
    *("signal everybody", "signal the group", "raise a limit", "slow another process", "set another process's limit"),
    *("set rights", "set rights of what is open", "set times", "set times of what is open", "set the owner"),
    *("set an attribute", "read another process's command", "open another process's files"),
    *("call execveat", "call fchmodat2", "call inotify_add_watch", "call mq_open", "call msgget", "call semget"),
    "call shmget",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_steps_that_are_taken_over(scene: dict, kind: str) -> None:
    folder = Path(scene["folder"])
    if kind == "latency":
        scene["source"] = str(Path(scene["source"]).rename(folder / "models" / "source.tflite"))
    setting = {"workflow": str(ROOT / "workflow"), "tests": str(TESTS), "scene": described(scene), "kind": kind}
    (folder / "taken_over.py").write_text(OTHER.format(**setting) + OTHERS[kind])
    environ = environment(scene) | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(folder / "taken_over.py")]
    run = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    if "this kernel has no" in run.stderr:
        pytest.skip("this kernel cannot confine steps")
    outcomes = json.loads((folder / "outcomes.json").read_text())
    if kind != "analysis":  # there is no thread that watches the run
        assert outcomes.pop("read from a thread that was there") == "ETIMEDOUT"
    happened = {name for name, found in outcomes.items() if found != "refused"}
    if kind == "check":
        happened -= WITH_PROGRAMS
    assert happened == set()
    assert scene["alive"]() == [True, True]
