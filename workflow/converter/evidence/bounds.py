"""Below which shares the reference is weak evidence: the one place where the bounds stand (docs/design.md)."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["BOUNDS", "below"]

# Measured: a trained network of digits uses 0.79 of its weights on any noise, since it has dead units; convolutions with
# rectifiers 0.6 to 1.0 on one sample. A table of which most rows were never read proves nothing for the rest, and a side
# of a branch that was never taken is not tested at all.
BOUNDS = {"weights": 0.5, "rows": 0.5, "branches": 1.0}


def below(coverage: Mapping[str, object]) -> list[str]:
    """The names of the shares of a report's `coverage` that lie below their bound; a share of null has none.

    Where not all samples were looked at, the others count as if each of them had added as much.
    """
    looked_at, samples = coverage["samples_looked_at"], coverage["samples"]
    possible = samples / looked_at if looked_at else 1.0
    return [
        name
        for name, bound in BOUNDS.items()
        if isinstance(share := coverage[name], float) and share * possible < bound
    ]
