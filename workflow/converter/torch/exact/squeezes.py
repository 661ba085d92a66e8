"""squeeze() of all axes of size 1, where a size may vary: of those that are 1 for all inputs, as the program's own shapes say.

Left as it is, an exporter asks which axes they are while it looks at one batch, or leaves the number of axes unknown.
"""

from __future__ import annotations

import torch

from converter.torch.exact.rewriting import Rule, Writer

__all__ = ["RULES"]

_aten = torch.ops.aten


def _squeeze(write: Writer, node: torch.fx.Node) -> torch.fx.Node | None:
    x = node.args[0]
    assert isinstance(x, torch.fx.Node)
    sizes = list(x.meta["val"].shape)
    if all(isinstance(size, int) for size in sizes):
        return None
    return write(
        _aten.squeeze.dims, x, [axis for axis, size in enumerate(sizes) if isinstance(size, int) and size == 1]
    )


RULES: dict[torch._ops.OpOverload, Rule] = {_aten.squeeze.default: _squeeze}
