"""The axes of a TensorFlow Lite file made from a PyTorch model."""

from __future__ import annotations

__all__ = ["channels_last_order"]


def channels_last_order(rank: int) -> tuple[int, ...]:
    """(0, 2, 3, 1) for rank 4, (0, 2, 3, 4, 1) for rank 5; other ranks keep their order."""
    return (0, *range(2, rank), 1) if rank in (4, 5) else tuple(range(rank))
