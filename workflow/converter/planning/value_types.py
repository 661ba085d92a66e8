"""Types of what people write in configurations, before and after it is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeGuard

__all__ = ["Parameters", "Written", "is_list", "is_mapping"]

# As YAML or JSON gives it: keys and values may be anything.
Written = dict[Any, Any]
# Canonical values by parameter (parameters.normalize), or those of one of its blocks.
Parameters = dict[str, Any]


def is_mapping(value: object) -> TypeGuard[Written]:
    """Whether it is a mapping, with whatever keys and values."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a list, of whatever items."""
    return isinstance(value, list)
