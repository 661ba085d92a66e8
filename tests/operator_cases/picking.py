"""Elements picked by position, by order or by value."""

import torch

from operator_cases.case import case, floats, ints

X = floats(3, 5, 4)
WHOLE = ints(-4, 5, 3, 6)  # with ties
TIED = WHOLE.astype("float32")

CASES = {
    "gather": case(lambda x, i: x.gather(1, i), X, ints(0, 5, 3, 2, 4)),
    "gather_fewer_rows": case(lambda x, i: x.gather(2, i), X, ints(0, 4, 3, 2, 3)),
    "gather_of_whole_numbers": case(lambda x, i: x.gather(-1, i), WHOLE, ints(0, 6, 3, 9)),
    "index_select": case(lambda x: x.index_select(1, torch.tensor([4, 0, 0])), X),
    "index_by_tensor": case(lambda x, i: x[:, i[0] - 5], X, ints(0, 5, 3, 2)),
    "index_of_two_axes": case(lambda x, i: x[torch.arange(x.shape[0])[:, None], i - 5], X, ints(0, 5, 3, 2)),
    "index_of_distant_axes": case(
        lambda x, i: (x[:, i[0], :, i[1] - 2], x[:, i[0]][..., i[1]]), floats(3, 2, 4, 2), ints(0, 2, 3, 3)
    ),
    "index_of_a_table": case(lambda i: torch.arange(12.0).view(4, 3)[i], ints(-4, 4, 3, 2)),
    "last_of_each_row": case(lambda x, n: x[torch.arange(x.shape[0]), n - 1], X, ints(1, 6, 3)),
    "take": case(lambda x, i: torch.take(x, i), X, ints(-20, 20, 3, 4)),
    "embedding": case(lambda i: torch.nn.functional.embedding(i, torch.arange(12.0).view(4, 3)), ints(0, 4, 3, 5)),
    "embedding_bag_sum": case(
        lambda i: torch.nn.functional.embedding_bag(i, torch.linspace(-1, 2, 12).view(4, 3), mode="sum"),
        ints(0, 4, 3, 5),
    ),
    "embedding_bag_mean": case(
        lambda i: torch.nn.functional.embedding_bag(i, torch.linspace(-1, 2, 12).view(4, 3)), ints(0, 4, 3, 5)
    ),
    "embedding_bag_max": case(
        lambda i: torch.nn.functional.embedding_bag(i, torch.linspace(-1, 2, 12).view(4, 3), mode="max"),
        ints(0, 4, 3, 5),
    ),
    "embedding_bag_weighted": case(
        lambda i, w: torch.nn.functional.embedding_bag(
            i, torch.linspace(-1, 2, 12).view(4, 3), per_sample_weights=w, mode="sum"
        ),
        ints(0, 4, 3, 5),
        floats(3, 5),
    ),
    "embedding_bag_padding": case(
        lambda i: torch.nn.functional.embedding_bag(i, torch.linspace(-1, 2, 12).view(4, 3), padding_idx=1),
        ints(0, 4, 3, 5),
    ),
    "topk": case(lambda x: (*x.topk(2, 1), *x.topk(3, -1, largest=False)), X),
    "topk_of_ties": case(lambda x: (x.topk(3)[0], x.topk(4, largest=False)[0]), TIED),
    "topk_of_whole_numbers": case(lambda x: (x.topk(3)[0], x.topk(4, largest=False)[0]), WHOLE),
    "sort": case(lambda x: (*x.sort(1), *x.sort(-1, descending=True)), X),
    "sort_stable": case(
        lambda x: (*x.sort(dim=1, stable=True), *x.sort(stable=True, descending=True), x.argsort(dim=1, stable=True)),
        TIED,
    ),
    "sort_of_whole_numbers": case(
        lambda x: (*x.sort(dim=1, stable=True), *x.sort(dim=1, descending=True, stable=True)), WHOLE
    ),
    "msort": case(lambda x: torch.msort(x.T)[0], X[:, :, 0]),
    "argsort": case(lambda x: (x.argsort(1), x.argsort(2, descending=True)), X),
    "kthvalue": case(lambda x: tuple(x.kthvalue(2, 1)), X),
    "median": case(lambda x: (*x.median(1), *x.median(2, keepdim=True)), X),
    "quantile": case(lambda x: (x.quantile(0.3, 1), x.quantile(torch.tensor([0.2, 0.5]), 2)), X),
    "mode": case(lambda x: x.mode(1)[0], WHOLE),
    "argmax": case(lambda x: (x.argmax(1), x.argmin(2, keepdim=True), x.argmax(), x.argmin(), *x.max(1), *x.min(2)), X),
    "searchsorted": case(
        lambda x, v: (
            torch.searchsorted(x.sort(1)[0], v),
            torch.searchsorted(x.sort(1)[0], v, right=True),
            torch.searchsorted(x.sort(1)[0], v, side="right", out_int32=True),
        ),
        TIED,
        floats(3, 4) * 3 // 1,
    ),
    "bucketize": case(
        lambda x: (
            torch.bucketize(x, torch.tensor([-1.0, 0, 0, 2])),
            torch.bucketize(x, torch.tensor([-1.0, 0, 2]), right=True),
        ),
        TIED,
    ),
    "one_hot": case(lambda i: torch.nn.functional.one_hot(i, 5), ints(0, 5, 3, 2)),
    "isin": case(lambda i: torch.isin(i, torch.tensor([1, 4])), ints(0, 5, 3, 2)),
    "nonzero": case(lambda x: x.nonzero(), TIED),
    "masked_select": case(lambda x: x.masked_select(x > 0), X),
    "unique": case(lambda x: torch.unique(x), WHOLE),
    "histc": case(lambda x: torch.histc(x, 6, -2, 2), X),
    "bincount": case(lambda x: torch.bincount(x.flatten(), minlength=12), ints(0, 5, 3, 6)),
}
