"""Tensors with parts written anew: scatter, index_put, slices, masks."""

import torch

from operator_cases.case import bools, case, floats, ints

X = floats(3, 5, 4)
ROWS = floats(3, 2, 4, seed=1)
PLACES = ints(0, 5, 3, 2, 4, seed=2)  # some twice in a column
ONCE = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).argsort(1)[:, :2].numpy()  # none twice
MASK = bools(3, 5, 4)


def _slices(x, y):
    x = x.clone()
    x[:, 1:4:2] = y
    x[:, -1] = 0
    x[:, 0, 1:] += 1
    return x


def _indices(x, y):
    x = x.clone()
    x[:, [1, -1]] = y
    x[:, :, torch.tensor([0, 2])] *= 2
    return x


def _mask(x, mask):
    x = x.clone()
    x[mask] = -1.0
    x[x > 1] = 1.0
    return x


def _rows_of_the_batch(x, y):
    x = x.clone()
    x[torch.arange(x.shape[0]), 1] = y[:, 0]
    return x


def _two_axes(x, y):
    x = x.clone()
    x[:, torch.tensor([0, 4, 2]), torch.tensor([1, -1, 1])] = y
    return x


def _distant_axes(x, y):
    x = x.clone()
    x[:, torch.tensor([0, 2]), :, torch.tensor([1, -1])] = y[:, 0]
    x[:, torch.tensor([1, 1]), :, torch.tensor([1, 1])] += 1
    return x


def _accumulated(x, y, places):
    return x.index_put((torch.arange(x.shape[0])[:, None], places[:, :, 0]), y, accumulate=True)


CASES = {
    "scatter_values": case(lambda x, y, i: x.scatter(1, i, y), X, ROWS, ONCE),
    "scatter_number": case(lambda x, i: x.scatter(1, i, 2.5), X, PLACES),
    "scatter_last_axis": case(lambda x, i: x.scatter(-1, i, -1.0), X, ints(0, 4, 3, 5, 2)),
    "scatter_fewer_rows": case(lambda x, i: x.scatter(2, i, 7.0), X, ints(0, 4, 3, 3, 3)),
    "scatter_add": case(lambda x, y, i: x.scatter_add(1, i, y), X, ROWS, PLACES),
    "scatter_add_longer_source": case(lambda x, y, i: x.scatter_add(2, i, y), X, floats(3, 6, 5), ints(0, 4, 3, 4, 3)),
    "scatter_add_of_whole_numbers": case(
        lambda x, y, i: x.scatter_add(1, i, y), ints(-9, 9, 3, 5), ints(-9, 9, 3, 7), ints(0, 5, 3, 7)
    ),
    "scatter_onehot": case(lambda i: torch.zeros(i.shape[0], 5).scatter_(1, i, 1.0), ints(0, 5, 3, 1)),
    **{
        f"scatter_reduce_{kind}{'' if own else '_without_self'}": case(
            lambda x, y, i, kind=kind, own=own: x.scatter_reduce(1, i, y, kind, include_self=own), X, ROWS, PLACES
        )
        for kind in ("sum", "prod", "mean", "amax", "amin")
        for own in (True, False)
    },
    "scatter_with_reduce": case(
        lambda x, y, i: (x.scatter(1, i, y, reduce="add"), x.scatter(1, i, y, reduce="multiply")), X, ROWS, PLACES
    ),
    "index_add": case(lambda x, y: x.index_add(1, torch.tensor([0, 3, 3]), y, alpha=2), X, floats(3, 3, 4)),
    "index_copy": case(lambda x, y: x.index_copy(1, torch.tensor([4, 0]), y), X, ROWS),
    "index_fill": case(lambda x: x.index_fill(2, torch.tensor([1, 3]), -2.0), X),
    "index_reduce": case(lambda x, y: x.index_reduce(1, torch.tensor([4, 0, 4]), y, "amax"), X, floats(3, 3, 4)),
    "slice_scatter": case(lambda x, y: x.slice_scatter(y, 1, 1, 4, 2), X, ROWS),
    "slice_scatter_to_the_end": case(lambda x, y: x.slice_scatter(y, 1, -2), X, ROWS),
    "select_scatter": case(lambda x, y: x.select_scatter(y, 2, -1), X, floats(3, 5)),
    "diagonal_scatter": case(lambda x, y: x.diagonal_scatter(y, 1, 1, 2), X, floats(3, 3)),
    "masked_scatter": case(lambda x, mask, y: x.masked_scatter(mask, y), X, MASK, floats(3, 5, 4, seed=3)),
    "assigned_slices": case(_slices, X, ROWS),
    "assigned_rows": case(_indices, X, ROWS),
    "assigned_mask": case(_mask, X, MASK),
    "assigned_by_row_of_the_batch": case(_rows_of_the_batch, X, ROWS),
    "accumulated_at_twice_the_same": case(_accumulated, X, ROWS, PLACES),
    "index_put_of_two_axes": case(_two_axes, X, floats(3, 3)),
    "index_put_of_distant_axes": case(_distant_axes, floats(2, 3, 2, 4), floats(2, 2, 2)),
    "index_put_by_computed_places": case(
        lambda x, i: x.index_put((torch.arange(x.shape[0]), i[:, 0] - 5), i[:, 1] * 1.0), floats(3, 5), ints(0, 5, 3, 4)
    ),
    "index_put_of_a_mask_and_values": case(lambda x, mask, y: x.index_put((mask,), y[0, 0]), X, bools(3, 5), ROWS),
    "masked_fill": case(lambda x, mask: (x.masked_fill(mask, 0.5), x.masked_fill(mask[:, :1], x.max())), X, MASK),
    "where_of_numbers": case(
        lambda x, mask: (torch.where(mask, x, 0), torch.where(x > 0, 1, -1), torch.where(mask, 2.5, x)), X, MASK
    ),
    "copy_": case(lambda x, y: x.clone().copy_(y), X, floats(3, 1, 4)),
    "fill_": case(lambda x: x + torch.empty_like(x).fill_(3.0), X),
}
