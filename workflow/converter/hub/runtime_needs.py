"""Which release of a runtime a file needs, from what it holds: the form that all formats' answers have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["RuntimeNeed", "oldest_runtime", "release_key"]


@dataclass(frozen=True)
class RuntimeNeed:
    """Something in a file that a runtime must know ("CONV_2D version 5", "opset 13"), how often it occurs, and the first
    release that does; None where no published table says.
    """

    need: str
    release: str | None
    count: int = 1


def release_key(release: str) -> tuple[int, ...]:
    """By which releases are compared: "1.14.0" is after "1.5"."""
    return tuple(map(int, release.split(".")))


def oldest_runtime(runtime: str, needs: Sequence[RuntimeNeed]) -> dict[str, Any]:
    """{"runtime", "release", "reason", "needs"} of a report.

    release: the oldest that knows all of `needs`, None where for one of them nobody has published it. reason: what decides
    that, in a few words.
    """
    unknown = [need.need for need in needs if need.release is None]
    known = [need for need in needs if need.release is not None]
    newest = max(known, key=lambda need: release_key(need.release or ""), default=None)
    listed = [asdict(need) for need in needs]
    if unknown:
        least = f"; at least {newest.release} for {newest.need}" if newest else ""
        reason = f"not known: no published table has {', '.join(unknown)}{least}"
        return {"runtime": runtime, "release": None, "reason": reason, "needs": listed}
    if newest is None:
        return {"runtime": runtime, "release": None, "reason": "not known: the file has no operators", "needs": listed}
    return {"runtime": runtime, "release": newest.release, "reason": newest.need, "needs": listed}
