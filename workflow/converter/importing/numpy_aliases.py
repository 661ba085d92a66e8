"""Names that NumPy removed in 1.24, for users' scripts of the original tool's time: its own example for `load` says np.float."""

from __future__ import annotations

import numpy as np

__all__ = ["lend_old_names"]

_REMOVED = {"bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str}


def lend_old_names() -> None:
    """Make `np.float` and the like mean what they meant, the builtin types; what NumPy has under such a name stays."""
    for name, builtin in _REMOVED.items():
        if name not in vars(np):
            setattr(np, name, builtin)
