"""The report of one target: what was made from what, how it was proven, and what it cost (schema: configs/report.schema.json)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from converter import formats
from converter.devices.fit import sentence as misfit_sentence
from converter.escape import json_text, printable
from converter.planning.source_files import file_sha256
from converter.version import __version__

if TYPE_CHECKING:
    from converter.contracts import ExportResult
    from converter.hub.contents import Failure
    from converter.hub.hub import Hub
    from converter.planning.planner import Plan

__all__ = [
    *("compose", "decision_lines", "line", "publishable", "read", "size_text", "unfinished", "worst_output", "write"),
]


def compose(
    target: str,
    hub: Hub,
    parameters: dict,
    export: str,
    result: ExportResult | None,
    error: Failure | None,
    staged: Path,
    steps: list[dict],
    versions: dict[str, str],
) -> dict:
    """The report as a mapping. `error` as in hub.json, `result` None when the conversion did not come to its end."""
    imported = f"import_{hub.source['format']}" if hub.source.get("format") else None
    report: dict = {
        "target": target,
        "status": "failed",
        "reason": None,
        "error": None,
        "source": {key: hub.source.get(key) for key in ("path", "format", "sha256", "bytes")},
        "file": None,
        "parameters": dict(sorted({**hub.parameters, **parameters}.items())),
        "route": [imported] if imported else [],
        "opset": None,
        "opset_reason": None,
        "inputs": [],
        "outputs": [],
        "notes": list(hub.notes),
        "decisions": list(hub.decisions),
        "verification": None,
        "first_divergence": None,
        "oldest_runtime": None,
        "device": None,
        "steps": steps,
        "versions": dict(sorted({**versions, "converter": __version__}.items())),
    }
    if error is not None or result is None:
        report["reason"] = error["message"] if error else f"{export} did not finish"
        report["error"] = error["kind"] if error else "Unfinished"
        return report
    report["route"] += result.route
    report["notes"] += result.notes
    report["decisions"] += [*result.decisions, *_seen_decisions(hub, result)]
    report |= {"opset": result.opset, "opset_reason": result.opset_reason, "oldest_runtime": result.oldest_runtime}
    report["device"] = result.device
    report |= {
        "inputs": [spec.to_report() for spec in result.inputs],
        "outputs": [spec.to_report() for spec in result.outputs],
        "file": _described(staged),
    }
    format = formats.find_target(target.rpartition(".")[2])
    if format is not None and (beside := format.staged_beside(staged)):
        report["file"]["beside"] = {"name": str(format.beside_of(Path(target))), **_described(beside)}
    if result.metadata:
        report["metadata"] = result.metadata
    if result.verification is None:
        report |= {"status": "unverified", "reason": result.unverified_reason or "nothing here can run the file"}
        return report
    report["verification"] = result.verification.to_json()
    report["verification"]["weak_evidence"] |= bool(hub.coverage.get("below"))
    report["verification"] |= {"evidence": hub.evidence, "coverage": hub.coverage, "weakest": hub.weakest}
    report["first_divergence"] = result.first_divergence
    if not result.verification.passed:
        report["status"] = "inaccurate"
        where = _place(result.first_divergence)
        report["reason"] = f"the file does not compute what the source computes: {result.verification.message}{where}"
    elif hub.unproven is not None:
        report |= {"status": "unverified", "reason": hub.unproven}
    else:
        report["status"] = "verified"
    if result.device is not None and not result.device["fits"] and report["status"] != "inaccurate":
        reason = misfit_sentence(result.device)
        report |= {
            "status": "failed",
            "reason": reason,
            "error": "UnsupportedError",
            "file": None,
            "verification": None,
        }
    return report


def _described(path: Path) -> dict:
    return {"sha256": file_sha256(path), "bytes": path.stat().st_size}


def _place(divergence: dict | None) -> str:
    """ "; it goes wrong at Conv2D of conv1", with the line of the source where that is known; "" where nothing is."""
    if divergence is None or divergence["operator"] is None:
        return ""
    layer = f" of {divergence['layer']}" if divergence["layer"] else ""
    line = ":".join(divergence["source_line"].split(":")[:2]) if divergence["source_line"] else ""
    return f"; it goes wrong at {divergence['operator']}{layer}{f' ({line})' if line else ''}"


def _seen_decisions(hub: Hub, result: ExportResult) -> list[str]:
    """What shows in the file: an opset other than the default, a batch that the source leaves free."""
    decisions = []
    if result.opset_reason:
        decisions.append(f"opset {result.opset}")
    batches = {spec.shape[0] for spec in result.inputs if spec.shape}
    if hub.batch_dynamic and len(batches) == 1 and None not in batches:
        decisions.append(f"batch fixed at {batches.pop()}")
    if result.verification is not None and result.verification.weak_evidence:
        decisions.append("weak evidence: the source's answers hardly vary over the samples")
    if result.verification is not None and (unused := hub.coverage.get("below")):
        decisions.append(f"weak evidence: the samples exercise too few {' and '.join(unused)} of the model")
    return decisions


def unfinished(target: str, plan: Plan, reason: str) -> dict:
    """The report of a target whose steps did not come to their end, from its plan alone."""
    from converter.hub.hub import Hub  # here, because `publish` runs once per target and has no need of numpy

    hub = Hub(Path(), parameters=plan.source.parameters if plan.source else {})
    hub.source = {"path": plan.source.source, "format": plan.source.format} if plan.source else {}
    error = {"kind": "Unfinished", "message": reason}
    return compose(target, hub, plan.parameters, "", None, error, Path(), [], {})


def write(path: Path, report: dict) -> None:
    """Write under a temporary name and move, so that no reader sees half a report.

    The name is always the same: what a killed step left is written over by the next one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json_text(report) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read(path: Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def publishable(report: dict) -> bool:
    """Whether the file may appear under its final name (docs/design.md, Failure)."""
    on_failure = report["parameters"].get("verify", {}).get("on_failure", "fail")
    return report["status"] in ("verified", "unverified") or (report["status"] == "inaccurate" and on_failure == "warn")


def line(report: dict) -> str:
    """One line for people: the target, what became of it, and the measured difference or the reason."""
    return printable(_line(report))


def decision_lines(report: dict) -> list[str]:
    """What stands below that line: what was decided that changes what the file means, a few words each."""
    return [f"    {printable(decision)}" for decision in report.get("decisions", [])]


def _line(report: dict) -> str:
    target, status = report["target"], report["status"]
    if report["file"] is None or not publishable(report):
        return f"{target}: {report['reason'].removeprefix(target + ': ')}"
    text = f"{target}  {status}  {size_text(report['file']['bytes'])}"
    if report["opset"]:
        text += f"  opset {report['opset']}"
    if status == "unverified":
        return f"{text}  ({report['reason']})"
    worst = worst_output(report)
    if worst is not None:
        text += f"  max difference {worst['max_abs_diff']:.1e}"
        if worst.get("tolerance"):
            text += f" (allowed {worst['tolerance']:.1e})"
    return text


def worst_output(report: dict) -> dict | None:
    """The entry of the output that comes nearest to its tolerance, or exceeds it most; None where nothing was measured."""
    return max(
        (e for e in (report["verification"] or {"outputs": []})["outputs"] if e.get("max_abs_diff") is not None),
        key=lambda entry: entry["max_abs_diff"] / (entry["tolerance"] or 1.0),
        default=None,
    )


def size_text(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"
