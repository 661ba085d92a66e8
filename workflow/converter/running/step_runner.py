"""The command-line runner of every conversion script: flags, sandbox, measurements, and errors in reports.

A user's mistake or a model's limit (ConverterError) is a verdict: it is written to hub.json or to the report, and the
step succeeds, so that Snakemake keeps what was written; `publish` then fails with the sentence. So is any unexpected
exception, since the same source would raise it again, with its traceback in the log. Only what another try may cure (no
memory, no time, a full disk) ends the step with exit status 1. While a step works it is confined (safety/sandbox/).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from converter import formats
from converter.contracts import ExportJob, ExportResult, ImportSpec, export_job, import_spec
from converter.errors import ConverterError
from converter.escape import printable
from converter.hub.contents import Cost, Failure, SourceFile
from converter.hub.hub import Hub
from converter.importing.user_code import Record, recorded
from converter.planning.library_versions import export_packages, versions_of
from converter.planning.parameters import (
    EXPORT_PARAMETERS,
    IMPORT_PARAMETERS,
    PARAMETERS,
    normalize,
)
from converter.run_state import failures
from converter.run_state.lifetime import end_with_run, in_run
from converter.running.access import export_access, import_access
from converter.running.fast_import import load_framework
from converter.running.logs import output_to_log
from converter.safety.sandbox import Access, Limits, confined, limits_for

__all__ = [
    *("add_parameters", "confinement", "given_parameters", "measure", "run_export", "run_import", "sentence"),
]

_KEY_HELP = "what planning made of the source's bytes and the user's code; recorded with what is run of that"
# Another try may succeed when there is memory or disk again.
_TRANSIENT = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EROFS}


def measure(name: str) -> Cost:
    """CPU seconds of this process and its children, wall seconds since its start, peak resident memory in MB."""
    times = os.times()
    return {
        "name": name,
        "cpu_seconds": round(times.user + times.system + times.children_user + times.children_system, 2),
        "wall_seconds": round(time.clock_gettime(time.CLOCK_BOOTTIME) - _process_start(), 2),
        "peak_memory_mb": _peak_memory_mb(),
    }


def _process_start() -> float:
    """Seconds after boot at which this process began, also where it was forked from a preloaded one."""
    with open("/proc/self/stat", encoding="ascii") as stat:
        ticks = stat.read().rpartition(")")[2].split()[19]  # proc(5): field 22, starttime
    return int(ticks) / os.sysconf("SC_CLK_TCK")


def _peak_memory_mb() -> int:
    """VmHWM, not ru_maxrss: that one also counts the process which forked this one, before exec."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) // 1024
    except FileNotFoundError:
        pass  # not Linux
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


def add_parameters(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    for name in names:
        parser.add_argument(f"--{name}", help=PARAMETERS[name].help)


def given_parameters(args: argparse.Namespace, names: Sequence[str]) -> dict:
    return {name: normalize(name, value) for name in names if (value := getattr(args, name)) is not None}


def _describe(error: Exception, step: str, subject: str) -> Failure:
    """{"kind", "message"} of a failed step; an unexpected exception's traceback goes to stderr, which is the log."""
    if isinstance(error, ConverterError):
        return {"kind": type(error).__name__, "message": sentence(str(error))}
    traceback.print_exc()
    lines = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines() if line.strip()]
    return {
        "kind": "InternalError",
        "message": sentence(f"{step} failed on {subject}: {lines[0][:300]} (see the log)"),
    }


def sentence(text: str) -> str:
    return printable(" ".join(text.split()))


def _is_transient(error: BaseException) -> bool:
    return _lacks_memory(error) or (isinstance(error, OSError) and error.errno in _TRANSIENT)


def _lacks_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in failures.NO_MEMORY)


@contextmanager
def confinement(
    name: str, subject: Path | str, limits: Limits, access: Access, toolchain: str = "default"
) -> Iterator[None]:
    """`access`: of the step itself; the legacy environment `toolchain`, which it starts a program in, is added.

    What libraries and models print goes to the log.
    """
    if toolchain != "default":
        from converter.planning.toolchains import is_built, programs

        if is_built(toolchain):
            access = replace(access, programs=programs(toolchain))
        else:  # a step alone at a shell builds the environment it needs
            access = replace(access, network=True)
    access = replace(access, writable=[*access.writable, *failures.folders()])
    timeout = TimeoutError(f"{limits.seconds} s have passed")
    with output_to_log(), confined(limits, lambda: _give_up(name, subject, timeout, limits), access):
        yield


def _give_up(name: str, subject: Path | str, error: BaseException, limits: Limits) -> int:
    """Leave a sentence for the end of the run (session.py), where there is one. Returns the exit status."""
    traceback.print_exception(error)
    if isinstance(error, TimeoutError):
        reason = (
            f"{name} did not end within {limits.seconds} s: CONVERTER_STEP_SECONDS in the environment gives it more"
        )
    elif _lacks_memory(error):
        reason = (
            f"{name} needs more memory than there is or than the {limits.memory / 1e6:,.0f} MB that a step may take: "
            "CONVERTER_STEP_MEMORY_MB in the environment gives it more"
        )
    else:
        reason = f"{name} could not go on ({sentence(str(error))[:300]}): run it again when that is mended"
    if in_run():
        with contextlib.suppress(OSError):  # on a full disk
            failures.remember(f"step {subject}", f"step {subject}: {reason}")
    return 1


def run_import(name: str, import_model: Callable[[ImportSpec, Path], Hub], argv: Sequence[str] | None = None) -> int:
    """Run an import script: source file to hub directory. Returns the exit status.

    With `argv` it runs inside another program, which is not confined.
    """
    parser = argparse.ArgumentParser(prog=name, description=sys.modules[import_model.__module__].__doc__)
    parser.add_argument("source", help=PARAMETERS["convert_from"].help)
    parser.add_argument("hub", type=Path, help="directory to write")
    parser.add_argument("--error", help="write this sentence as the import's failure")
    parser.add_argument("--key", default="", help=_KEY_HELP)
    add_parameters(parser, IMPORT_PARAMETERS)
    args = parser.parse_args(argv)
    end_with_run()
    args.hub.mkdir(parents=True, exist_ok=True)
    hub = Hub(args.hub)
    parameters: dict = {}
    limits = limits_for(0)
    code = Record()
    source: SourceFile = {"path": args.source, "format": name.removeprefix("import_"), "sha256": None, "bytes": None}
    try:
        if args.error:
            raise ConverterError(args.error)
        from converter.planning.source_files import (
            refuse_links,
            refuse_patterns,
            source_bytes,
            source_sha256,
            source_stat,
            unreadable,
        )

        parameters = given_parameters(args, IMPORT_PARAMETERS)
        path = Path(args.source)
        try:
            stat = source_stat(path)
            source |= {"sha256": source_sha256(path), "bytes": source_bytes(path), "stat": stat}
        except PermissionError as error:
            raise unreadable(error) from error
        spec = import_spec(path, source["format"], parameters)
        refuse_patterns(path)
        if not spec.trusted:
            refuse_links(path)
        limits = limits_for(source["bytes"])
        confined_step = confinement(name, args.hub, limits, import_access(spec, args.hub), spec.toolchain)
        if spec.toolchain == "default":
            load_framework(formats.source(spec.format).framework)
        with confined_step if argv is None else nullcontext(), recorded(code):
            hub = import_model(spec, args.hub)
        if source_stat(path) != stat:
            raise OSError(errno.EIO, f"{path} changed while it was read")
    except Exception as error:
        if _is_transient(error):
            return _give_up(name, args.hub, error, limits)
        hub = Hub(args.hub, error=_describe(error, name, args.source))
        if isinstance(error, ConverterError) and "toolchain" not in hub.error["message"]:
            from converter.importing.hints import toolchain_hint

            hub.error["message"] += toolchain_hint(error)
    hub.source, hub.parameters, hub.user_code = source, parameters, {"key": args.key, **code.to_json()}
    hub.versions, hub.step = {**versions_of(formats.source(source["format"]).packages), **hub.versions}, measure(name)
    hub.write()
    return 0


def run_export(
    name: str,
    export_model: Callable[[Hub, ExportJob, Path], ExportResult],
    argv: Sequence[str] | None = None,
    *,
    explain: Callable[[Hub, ExportJob, Path, ExportResult], dict] | None = None,
) -> int:
    """Run an export script: hub directory to a staged file, verified, and its report. Returns the exit status.

    With `argv` it runs inside another program, which is not confined.
    explain: what the report says of where an inaccurate file goes wrong (divergence.first_divergence).
    """
    from converter.hub.informative import why_unproven
    from converter.planning.recorded_code import record_of, refuse_changed, write_record
    from converter.planning.source_files import source_bytes
    from converter.publishing import report

    parser = argparse.ArgumentParser(prog=name, description=sys.modules[export_model.__module__].__doc__)
    parser.add_argument("hub", type=Path, help="directory that an import script wrote")
    parser.add_argument("staged", type=Path, help="file to write")
    parser.add_argument("--report", type=Path, required=True, help="report to write")
    parser.add_argument("--target", required=True, help="what the file will be named in the end")
    parser.add_argument("--key", default="", help=_KEY_HELP)
    parser.add_argument("--notes", type=json.loads, default=[], help="notes of the report, a JSON list of sentences")
    add_parameters(parser, EXPORT_PARAMETERS)
    args = parser.parse_args(argv)
    end_with_run()
    args.staged.parent.mkdir(parents=True, exist_ok=True)
    args.report.parent.mkdir(parents=True, exist_ok=True)
    written = _staged_files(args.target, args.staged)
    for path in written:
        path.unlink(missing_ok=True)
    hub = Hub.read(args.hub)
    result, error, parameters, code = None, hub.error, {}, Record()
    limits = limits_for(source_bytes(args.hub))
    try:
        parameters = given_parameters(args, EXPORT_PARAMETERS)
        if error is None:
            job = export_job(args.target, parameters)
            folders = [args.staged.parent, args.report.parent]
            toolchain = "default" if job.backend == "default" else hub.parameters.get("toolchain", "tf2.3")
            confined_step = confinement(name, args.target, limits, export_access(hub, job, folders), toolchain)
            load_framework(hub.framework)
            refuse_changed(hub)
            with confined_step if argv is None else nullcontext(), recorded(code):
                result = export_model(hub, job, args.staged)
                hub.unproven = hub.unproven or why_unproven(hub, hub.reference())
                inaccurate = result.verification is not None and not result.verification.passed
                if explain is not None and inaccurate and args.staged.is_file():
                    result.first_divergence = explain(hub, job, args.staged, result)
            if not all(path.is_file() for path in written):
                raise RuntimeError(f"{name} wrote no file")
    except Exception as caught:
        if _is_transient(caught):
            return _give_up(name, args.target, caught, limits)
        error = _describe(caught, name, hub.source.get("path") or args.target)
    if error is not None:
        # Snakemake wants every declared output; `publish` never moves a file whose report says failed.
        for path in written:
            path.write_bytes(b"")
    if "load" in parameters.get("quantization", {}):
        write_record(record_of(args.staged), {"key": args.key, **code.to_json()})
    steps = [hub.step, measure(name)] if hub.step else [measure(name)]
    versions = {**hub.versions, **_export_versions(name, args.target, hub, parameters)}
    hub.notes = [*args.notes, *hub.notes]
    report.write(
        args.report, report.compose(args.target, hub, parameters, name, result, error, args.staged, steps, versions)
    )
    return 0


def _staged_files(target: str, staged: Path) -> list[Path]:
    """The staged file, and the one that belongs beside it, where its format has such."""
    found = formats.find_target(target.rpartition(".")[2])
    beside = found.staged_beside(staged) if found else None
    return [staged, *([beside] if beside else [])]


def _export_versions(name: str, target: str, hub: Hub, parameters: dict) -> dict[str, str]:
    """Of the libraries of the export; none where the target's format cannot be made from this hub."""
    extension = target.rpartition(".")[2]
    if name == "report_refusal" or formats.find_target(extension) is None:
        return {}
    return versions_of(export_packages(extension, hub.framework, parameters.get("quantization")))
