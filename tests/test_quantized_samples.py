"""How quantized files are measured on representative data: one row alone and three at once, where the batch is free."""

from __future__ import annotations

import numpy as np

from converter.quantization.model import _batches


def test_rows_alone_and_three_at_once():
    rows = [[np.full((1, 2), number), np.full((1,), number)] for number in range(10)]
    batches = list(_batches(rows))
    assert [len(first) for first, _ in batches] == [1, 3, 1, 3, 1, 1]
    for place in (0, 1):
        together = np.concatenate([batch[place] for batch in batches])
        np.testing.assert_array_equal(together, np.concatenate([row[place] for row in rows]))
    assert list(_batches([])) == []
