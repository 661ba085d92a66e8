"""Reference inputs: seeded, of the right kind, in sizes that catch a frozen or swapped dimension; or the user's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.errors import ParameterError
from converter.hub.hub import Run, TensorSpec
from converter.hub.informative import reference_is_weak, typical
from converter.hub.reference import make_reference, plan_batches, split_rows
from converter.hub.samples import make_inputs

IMAGE = TensorSpec("image", (None, None, None, 3), "float32")
TEXT = TensorSpec("text", (None,), "string")


def double(arrays):
    return [array * 2 for array in arrays]


@given(st.integers(1, 50))
def test_batches_hold_all_samples_and_one_above_one(samples):
    batches = plan_batches(True, samples)
    assert sum(batches) == samples
    assert samples < 3 or max(batches) > 1
    assert plan_batches(False, samples) == [None] * samples


def test_inputs_are_seeded_and_differ_by_name_place_and_seed():
    specs = [TensorSpec("a", (None, 8), "float32"), TensorSpec("b", (None, 8), "float32")]
    one = make_inputs(specs, batch=2, sizes=(7, 12), seed=0)
    again = make_inputs(specs, batch=2, sizes=(7, 12), seed=0)
    other = make_inputs(specs, batch=2, sizes=(7, 12), seed=1)
    assert all((a == b).all() for a, b in zip(one, again, strict=True))
    assert (one[0] != one[1]).any() and (one[0] != other[0]).any()


@pytest.mark.parametrize(
    ("dtype", "kind", "low", "high"),
    [
        ("float32", "f", -6, 6),
        ("float16", "f", -6, 6),
        ("bfloat16", "V", -6, 6),
        ("int64", "i", -12, 12),
        ("int8", "i", -128, 127),
        ("uint32", "u", 0, 9),
        ("uint8", "u", 0, 255),
        ("bool", "b", 0, 1),
        ("complex64", "c", None, None),
    ],
)
def test_values_have_the_dtype_and_use_its_range(dtype, kind, low, high):
    (array,) = make_inputs([TensorSpec("x", (None, 300), dtype)], batch=3, sizes=(1, 1), seed=0)
    assert array.dtype.kind == kind and array.shape == (3, 300) and len(np.unique(array)) > 1
    if low is not None:
        assert low <= array.astype(np.float64).min() and array.astype(np.float64).max() <= high
    if dtype == "uint8":
        assert array.max() > 200


def test_words_and_vocabularies():
    (words,) = make_inputs([TEXT], batch=5, sizes=(1, 1), seed=0)
    assert words.dtype == object and all(isinstance(word, bytes) for word in words)
    spec = TensorSpec("ids", (None, 200), "float32")
    (ids,) = make_inputs([spec], batch=5, sizes=(1, 1), seed=0, vocabulary={"ids": 4})
    assert sorted(np.unique(ids)) == [0, 1, 2, 3] and ids.dtype == np.float32


def test_unknown_height_and_width_differ_from_each_other_and_from_run_to_run():
    runs = typical(make_reference([IMAGE], True, double))
    shapes = [run.inputs[0].shape for run in runs]
    assert [shape[0] for shape in shapes] == [1, 3]
    assert all(height != width for _, height, width, _ in shapes) and shapes[0][1:] != shapes[1][1:]


def test_a_sequence_has_one_length_in_all_inputs():
    specs = [TensorSpec(name, (None, None), "int64") for name in ("ids", "mask")]
    for run in make_reference(specs, True, double):
        assert run.inputs[0].shape == run.inputs[1].shape


@pytest.mark.parametrize(
    "accepts",
    [
        lambda n, h, w, c: h % 32 == 0 and w % 32 == 0,
        lambda n, h, w, c: min(h, w) >= 224,
        lambda n, h, w, c: h == w > 1,
        lambda n, h, w, c: max(h, w) <= 3,
    ],
    ids=["multiple of 32", "large", "square", "tiny"],
)
def test_sizes_are_tried_until_the_source_accepts_them(accepts):
    def run(arrays):
        if not accepts(*arrays[0].shape):
            raise ValueError("incompatible shapes")
        return double(arrays)

    assert len(typical(make_reference([IMAGE], True, run))) == 2


def test_a_source_that_accepts_nothing_asks_for_a_shape():
    def run(arrays):
        raise ValueError("Dimensions must be equal\nmore")

    with pytest.raises(ParameterError, match=r"image \[-1,-1,-1,3\].*give input_shape.*Dimensions must be equal\)"):
        make_reference([IMAGE], True, run)
    with pytest.raises(ValueError, match="Dimensions must be equal"):
        make_reference([TensorSpec("x", (2, 3), "float32")], False, run)


X = TensorSpec("x", (None, 2), "float32")


def lengths(runs):
    return [run.inputs[0].shape for run in runs]


def test_user_inputs_are_cut_into_batches():
    arrays = {"x": np.arange(10.0).reshape(5, 2), "labels": np.arange(5)}
    runs = make_reference([X], True, double, user_inputs=arrays)
    assert lengths(runs) == [(1, 2), (4, 2)]
    np.testing.assert_array_equal(np.concatenate([run.outputs[0] for run in runs]), arrays["x"] * 2)
    assert runs[0].inputs[0].dtype == np.float32
    one = make_reference([X], True, double, user_inputs={"x": np.zeros((1, 2))})
    assert lengths(one) == [(1, 2)]


def test_user_inputs_of_a_fixed_batch_and_without_a_batch():
    fixed = TensorSpec("x", (2, 3), "int32")
    assert lengths(make_reference([fixed], False, double, user_inputs={"x": np.zeros((4, 3), int)})) == [(2, 3)] * 2
    assert lengths(make_reference([fixed], False, double, user_inputs={"x": np.zeros((4, 2, 3), int)})) == [(2, 3)] * 4
    free = TensorSpec("x", (None, 3), "float32")  # an unknown first dimension that is not a batch
    assert lengths(make_reference([free], False, double, user_inputs={"x": np.zeros((4, 3))})) == [(4, 3)]


@pytest.mark.parametrize("words", [np.array(["a", "bc"]), np.array([b"a", b"bc"])], ids=["str", "bytes"])
def test_user_inputs_of_text(words):
    (first, second) = make_reference([TEXT], True, lambda arrays: arrays, user_inputs={"text": words})
    assert [*first.inputs[0], *second.inputs[0]] == [b"a", b"bc"]


@pytest.mark.parametrize(
    ("specs", "arrays", "message"),
    [
        ([X], {"y": np.zeros((1, 2))}, "no array named x; it holds y"),
        ([X], {}, "no array named x; it holds nothing"),
        ([X], {"x": np.zeros((4, 3))}, r"x is float64 \[4, 3\], expected float32 \[samples, 2\]"),
        ([X], {"x": np.zeros((4, 2, 2, 2))}, "expected float32"),
        ([X], {"x": np.array([["a", "b"]])}, "expected float32"),
        ([X], {"x": np.zeros((4, 2), bool)}, "x is bool"),
        ([TensorSpec("x", (None,), "int64")], {"x": np.zeros(3)}, r"x is float64 \[3\], expected int64 \[samples\]"),
        ([X], {"x": np.zeros((0, 2))}, "at least one"),
        ([X], {"x": np.float32(1)}, "at least one"),
        ([X, TensorSpec("y", (None,), "float32")], {"x": np.zeros((2, 2)), "y": np.zeros(3)}, "same number of samples"),
        ([TensorSpec("x", (4, 2), "float32")], {"x": np.zeros((3, 2))}, r"3 samples, .* whole batches of x \[4,2\]"),
    ],
)
def test_user_inputs_that_do_not_fit(specs, arrays, message):
    with pytest.raises(ParameterError, match=message):
        make_reference(specs, False, double, user_inputs=arrays)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3))
def test_split_rows_keeps_every_row_in_order(batches):
    rng = np.random.default_rng(0)
    runs = [Run([rng.random((n, 2)), rng.random((n, 3, 1))], [rng.random((n, 4))]) for n in batches]
    rows = split_rows(runs)
    assert len(rows) == sum(batches)
    assert all(array.shape[0] == 1 for row in rows for array in [*row.inputs, *row.outputs])
    for pick in (lambda run: run.inputs[0], lambda run: run.inputs[1], lambda run: run.outputs[0]):
        np.testing.assert_array_equal(np.concatenate(list(map(pick, rows))), np.concatenate(list(map(pick, runs))))


def test_split_rows_drops_only_what_cannot_be_split():
    scalar, one, three = np.float32(1), np.zeros((1, 2)), np.zeros((3, 2))
    assert split_rows([Run([one], [scalar])]) == [Run([one], [scalar])]
    assert split_rows([Run([three], [scalar])]) == []
    assert split_rows([Run([three], [np.zeros((2, 2))])]) == []


def runs_of(*outputs):
    return [Run([], [np.asarray(output)]) for output in outputs]


@pytest.mark.parametrize(
    ("weak", "outputs"),
    [
        (True, [np.ones((1, 3)), np.ones((3, 3))]),
        (True, [np.ones((1, 3)), np.ones((3, 3)) + np.float64([[0], [0], [1e-4]])]),
        (False, [np.ones((1, 3)), np.ones((3, 3)) + np.float64([[0], [0], [1e-2]])]),
        (False, [np.full((1, 3), 1e-6), np.full((1, 3), 2e-6)]),
        (True, [np.zeros((2, 3))]),
        (True, [np.int64([[4]]), np.int64([[4]])]),
        (False, [np.int64([[4]]), np.int64([[5]])]),
        (False, [np.ones((1, 2)), np.ones((1, 3))]),
        (True, [np.float32([[0.3, 0.7]])]),
        (True, [np.zeros((2, 0))]),
        (False, [np.float32(1), np.float32(2)]),
        (False, [np.array([b"a"], object), np.array([b"b"], object)]),
        (False, [np.float32([[np.nan, 1]]), np.float32([[1, 1]])]),
    ],
)
def test_weak_evidence(weak, outputs):
    assert reference_is_weak(runs_of(*outputs)) is weak


def test_no_outputs_are_weak_evidence_and_one_varying_output_is_enough():
    assert reference_is_weak([]) and reference_is_weak([Run([], [])])
    constant, varying = np.ones((2, 3)), np.float64([[1.0], [2.0]])
    assert not reference_is_weak([Run([], [constant, varying])])
