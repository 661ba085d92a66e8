"""Whether a file fits a device, and what of it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.hub.runtime_needs import release_key

if TYPE_CHECKING:
    from converter.devices.facts import Facts, Operator
    from converter.planning.profiles import Profile

__all__ = ["check", "sentence"]

_MOST = 5


def check(facts: Facts, profile: Profile) -> dict[str, Any]:
    """The `device` of a report: {"name", "title", "source", "fits", "misfits", "operators"}.

    misfits: a clause for each thing that the device does not take. operators: each with whether it fits, null where the
    profile has no list of operators.
    """
    misfits = [*_whole(facts, profile), *_by_operator(facts, profile)]
    return {
        "name": profile.name,
        "title": profile.title,
        "source": profile.source,
        "fits": not misfits,
        "misfits": misfits,
        "operators": [
            {"operator": _named(operator), "count": operator.count, "fits": _fits(operator, profile)}
            for operator in facts.operators
        ],
    }


def sentence(found: dict[str, Any]) -> str:
    """Why the file is not made for the device, and what to do."""
    return (
        f"the file does not fit device {found['name']}: {'; '.join(found['misfits'])}; cut or change the model there, "
        "name another device, or leave device out"
    )


def _whole(facts: Facts, profile: Profile) -> list[str]:
    found: list[str] = []
    if profile.release is not None:
        release = facts.oldest["release"]
        if release is None:
            found.append(f"which release it needs is {facts.oldest['reason']}")
        elif release_key(release)[:2] > release_key(profile.release)[:2]:
            found.append(f"it needs {facts.oldest['runtime']} {release} ({facts.oldest['reason']})")
    if profile.opset is not None and facts.opset is not None:
        lowest, highest = profile.opset
        if not lowest <= facts.opset <= highest:
            found.append(f"it has opset {facts.opset}, and {lowest} to {highest} are taken")
    if profile.ir_version is not None and (facts.ir_version or 0) > profile.ir_version:
        found.append(f"it has IR version {facts.ir_version}, and up to {profile.ir_version} are taken")
    if profile.fixed_shapes and facts.free:
        found.append(f"input {', '.join(facts.free)} has a size that is free")
    if profile.max_bytes is not None and facts.bytes > profile.max_bytes:
        found.append(f"the model takes {facts.bytes:,} bytes of {profile.max_bytes:,}")
    if profile.max_arena is not None and (facts.arena or 0) > profile.max_arena:
        found.append(f"its tensors take {facts.arena:,} bytes of {profile.max_arena:,}")
    return found


def _by_operator(facts: Facts, profile: Profile) -> list[str]:
    found: list[str] = []
    if profile.integer_only and (floats := [operator.name for operator in facts.operators if operator.floats]):
        found.append(f"{_listed(floats)} computes in float")
    refused = [_named(operator) for operator in facts.operators if _is_missing(operator, profile)]
    if refused:
        found.append(f"the device has no operator {_listed(refused)}")
    return found


def _fits(operator: Operator, profile: Profile) -> bool | None:
    if profile.integer_only and operator.floats:
        return False
    return not _is_missing(operator, profile) if profile.operators else None


def _is_missing(operator: Operator, profile: Profile) -> bool:
    if not profile.operators:
        return False
    highest = profile.operators.get(operator.name, 0)
    return highest is not None and operator.version > highest


def _named(operator: Operator) -> str:
    return f"{operator.name} version {operator.version}" if operator.version else operator.name


def _listed(names: list[str]) -> str:
    shown = list(dict.fromkeys(names))
    return ", ".join(shown[:_MOST]) + (f" and {len(shown) - _MOST} more" if len(shown) > _MOST else "")
