"""Weights that share memory in a program that is about to be saved.

torch.export.save (2.13) writes, for each dtype, all of the memory in which weights of it lie: of a file that was mapped into
memory whole that is everything up to the last of them, and where that is no multiple of the dtype's size nothing reads it again.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import torch

__all__ = ["separate_dtypes"]


def separate_dtypes(program: torch.export.ExportedProgram) -> None:
    """Copy, in the program itself, the weights that share memory with more bytes of another dtype."""
    by_storage: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
    for name, tensor in program.state_dict.items():
        if tensor.layout == torch.strided:
            by_storage[tensor.untyped_storage().data_ptr()][name] = tensor
    for tensors in by_storage.values():
        sizes: Counter[torch.dtype] = Counter()
        for tensor in tensors.values():
            sizes[tensor.dtype] += tensor.numel() * tensor.element_size()
        if len(sizes) < 2:
            continue
        kept = sizes.most_common(1)[0][0]
        copies: dict[int, torch.Tensor] = {}
        for name, tensor in tensors.items():
            if tensor.dtype != kept:
                # Tied weights stay one.
                copy = copies.setdefault(tensor.data_ptr(), tensor.detach().clone())
                same = copy if copy.shape == tensor.shape else tensor.detach().clone()
                program.state_dict[name] = (
                    torch.nn.Parameter(same, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else same
                )
