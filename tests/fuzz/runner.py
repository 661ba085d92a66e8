"""Run cases: a child for each, forked from this process, which has imported the frameworks but done nothing else with them."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from forked import fork

from fuzz.bytes_cases import Build

__all__ = ["Case", "Result", "preload", "run_cases"]

ROOT = Path(__file__).resolve().parents[2]
_SCRIPTS = ROOT / "scripts"
_PRELOADED = {
    "tensorflow": ("tensorflow", "keras", "tf_keras", "h5py", "tf2onnx.tfonnx", "onnx", "onnxruntime"),
    "pytorch": ("torch", "torch.export", "torch.onnx", "onnx", "onnxruntime"),
    "onnx": ("onnx", "onnxruntime", "torch", "torch.export"),
    "tflite": ("onnx", "onnxruntime", "ai_edge_litert.interpreter", "torch"),
}
_SECONDS, _MEMORY_MB = 30, 4000
_M_PERTURB = -6  # of glibc's mallopt: fill what is allocated with this byte
_OUTPUTS = ("before", "note", "source", "hub", "again", "x.onnx", "report.json")
_FLAGS = {"pytorch": ["--input_shape=1,2,6,6"]}


@dataclass
class Case:
    """`kind` names the seed, its first word the import script; `words` what was done to it; `index` its place in the stream."""

    kind: str
    index: int
    words: str
    build: Build

    @property
    def script(self) -> str:
        return f"import_{self.kind.split()[0]}"


@dataclass
class Result:
    """outcome: "refused" (one sentence), "verified", "unverified", "inaccurate", "gave up" (memory, time), "crashed", "hung",
    "no case" (the seed could not be spoilt so). part: the deepest function of the converter that the file reached.
    """

    case: Case
    outcome: str
    part: str = ""
    message: str = ""
    digest: str = ""
    problems: list[str] = field(default_factory=list)


def preload(kinds: list[str]) -> None:
    """Import what children need; nothing may start threads here."""
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ |= {"CONVERTER_STEP_SECONDS": str(_SECONDS), "CONVERTER_STEP_MEMORY_MB": str(_MEMORY_MB)}
    sys.path[:0] = [str(ROOT / "workflow"), str(_SCRIPTS)]
    frameworks = {word if (word := kind.split()[0]) in _PRELOADED else "tensorflow" for kind in kinds}
    for framework in frameworks:
        for module in _PRELOADED[framework]:
            importlib.import_module(module)


def run_cases(cases: Iterator[Case], workers: int, seconds: float, export: bool) -> Iterator[Result]:
    """Results as they come, until the cases or the seconds are used up."""
    end = time.monotonic() + seconds if seconds else float("inf")
    running: dict[int, tuple[Case, Path, float, str]] = {}
    base = Path(tempfile.mkdtemp(prefix="converter-fuzz-"))
    more = True
    try:
        while more or running:
            while more and len(running) < workers:
                case = next(cases, None) if time.monotonic() < end else None
                if case is None:
                    more = False
                    break
                folder = base / f"{case.kind.replace(' ', '_')}-{case.index}"
                folder.mkdir()
                running[_fork(_import_case, case, folder)] = (case, folder, time.monotonic(), "import")
            for pid in list(running):
                case, folder, started, phase = running[pid]
                ended, status = os.waitpid(pid, os.WNOHANG)
                if not ended:
                    if time.monotonic() - started > 2 * _SECONDS + 30:
                        os.killpg(pid, signal.SIGKILL)
                        os.waitpid(pid, 0)
                        del running[pid]
                        yield Result(case, "hung", phase)
                    continue
                del running[pid]
                result = _result(case, folder, os.waitstatus_to_exitcode(status), phase)
                following = {"import": "again", "again": "export" if export else None}.get(phase)
                if result is None and following:
                    action = _import_again if following == "again" else _export_case
                    running[_fork(action, case, folder)] = (case, folder, time.monotonic(), following)
                    continue
                shutil.rmtree(folder, ignore_errors=True)
                yield result or Result(case, "read", "read to the end", digest=_digest(folder))
            time.sleep(0.005)
    finally:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        shutil.rmtree(base, ignore_errors=True)


def _fork(action: Callable[[Case, Path], int], case: Case, folder: Path) -> int:
    """In a session of its own, since a case may start programs."""

    def act() -> int:
        os.setsid()
        os.chdir(folder)
        return action(case, folder)

    return fork(act, folder / "log", 120)


def _import_case(case: Case, folder: Path) -> int:
    from converter.running import step_runner

    try:
        source = case.build(folder).relative_to(folder)
    except Exception:
        traceback.print_exc()
        return 121
    (folder / "before").write_text("\0".join(os.listdir(folder)))
    note = os.open(folder / "note", os.O_WRONLY | os.O_CREAT)
    os.write(note, (_hash(folder) + "\n").encode())
    describe = step_runner._describe

    def noting(error, *arguments):
        os.write(note, (_part(error) + "\n").encode("utf-8", "replace"))
        return describe(error, *arguments)

    step_runner._describe = noting
    (folder / "source").write_text(str(source))
    return _run_import(case, str(source), "hub")


def _run_import(case: Case, source: str, hub: str) -> int:
    sys.argv = [case.script, *_FLAGS.get(case.kind.split()[0], []), "--", source, hub]
    runpy.run_path(str(_SCRIPTS / f"{case.script}.py"), run_name="__main__")
    return 0


def _import_again(case: Case, folder: Path) -> int:
    """In other memory: what a library reads beyond a damaged file's arrays then comes out otherwise."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_PERTURB, 0xA5)
    return _run_import(case, (folder / "source").read_text(), "again")


def _export_case(_case: Case, _folder: Path) -> int:
    sys.argv = ["export_onnx", "--report=report.json", "--target=converted/x.onnx", "--", "hub", "x.onnx"]
    runpy.run_path(str(_SCRIPTS / "export_onnx.py"), run_name="__main__")
    return 0


def _part(error: BaseException) -> str:
    """ "graph_file.py read_graph_file SourceError (DecodeError)": where in the converter, and what the library said."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if str(ROOT) in frame.filename and ".venv" not in frame.filename and "tests" not in frame.filename
    ]
    last = own[-1] if own else frames[-1]
    place = (
        Path(last.filename).relative_to(ROOT / "workflow" / "converter")
        if "workflow" in last.filename
        else Path(last.filename).name
    )
    cause = error.__cause__ or error.__context__
    return f"{place} {last.name} {type(error).__name__}" + (f" ({type(cause).__name__})" if cause else "")


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("log", "note", "before"):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _contents(hub: Path) -> dict[str, bytes]:
    """Weights, graph and reference; hub.json beside them has times in it."""
    files = [path for path in hub.rglob("*") if path.is_file() and path.name != "hub.json"]
    return {str(path.relative_to(hub)): path.read_bytes() for path in files}


def _digest(folder: Path) -> str:
    note = folder / "note"
    return note.read_text().split("\n")[0] if note.is_file() else ""


def _result(case: Case, folder: Path, code: int, phase: str) -> Result | None:
    """None: the import read the file."""
    lines = (folder / "note").read_text().split("\n") if (folder / "note").is_file() else []
    digest = lines[0] if lines else ""
    part = lines[1] if len(lines) > 1 and lines[1] else phase
    log = (folder / "log").read_text(errors="replace").strip().splitlines()
    if code == 121:
        return Result(case, "no case", message=log[-1] if log else "")
    if code < 0:
        return Result(case, "crashed", f"{phase}: {signal.Signals(-code).name}", log[-1][:200] if log else "", digest)
    if code == 1:
        return Result(case, "gave up", phase, log[-1][:200] if log else "", digest)
    if code:
        return Result(case, "crashed", f"{phase}: exit status {code}", log[-1][:200] if log else "", digest)
    if phase == "again":
        if _contents(folder / "hub") == _contents(folder / "again"):
            return None
        return Result(case, "verified", phase, "read anew, it is another", digest, ["it depends on what memory held"])
    if phase == "import":
        error = json.loads((folder / "hub" / "hub.json").read_text())["error"]
        if error is None:
            return None
        result = Result(case, "refused", part, f"{error['kind']}: {error['message']}", digest)
    else:
        report = json.loads((folder / "report.json").read_text())
        outcome = "refused" if report["status"] == "failed" else report["status"]
        kind = (report["error"] or {}) if isinstance(report["error"], dict) else report["error"]
        result = Result(case, outcome, f"export: {report['status']}", f"{kind}: {report['reason']}", digest)
    result.problems += _problems(result, folder)
    return result


def _problems(result: Result, folder: Path) -> list[str]:
    """What a person must not get to see."""
    found = []
    if result.outcome == "refused":
        sentence = result.message.partition(": ")[2]
        if not sentence or "\n" in sentence or "Traceback" in sentence or len(sentence) > 1200:
            found.append("not one sentence")
        if result.message.startswith("InternalError"):
            found.append("unexpected exception")
    if list(folder.rglob("pwned")):
        found.append("it ran a command")
    known = {*(folder / "before").read_text().split("\0"), *_OUTPUTS}
    if others := set(os.listdir(folder)) - known:
        found.append(f"it wrote {sorted(others)}")
    return found
