"""Small models of one operator each, to every target, and the page that says what came of them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from operator_cases import CASES
from special_hubs import export_to, program_hub

from converter.errors import UnsupportedError

_SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "operators.py"
_SPEC = importlib.util.spec_from_file_location("operators_page", _SCRIPT)
operators_page = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(operators_page)

NOTES = json.loads(operators_page.NOTES.read_text())
ALL = operators_page.cases()
# A few of each topic, for every run of the tests; the others are slow together.
QUICK = [
    "writing/scatter_values",
    "writing/scatter_number",
    "writing/scatter_reduce_amax_without_self",
    "writing/accumulated_at_twice_the_same",
    "writing/assigned_mask",
    "writing/assigned_slices",
    "writing/masked_scatter",
    "picking/index_of_two_axes",
    "picking/gather_fewer_rows",
    "picking/sort_stable",
    "picking/searchsorted",
    "picking/embedding_bag_mean",
    "picking/nonzero",
    "images/grid_sample_bilinear_reflection_False",
    "images/grid_sample_nearest_border_True",
    "images/grid_sample_bicubic_zeros_False",
    "images/max_pool_places",
    "images/fold",
    "arithmetic/cumulative_extrema_of_ties",
    "arithmetic/logcumsumexp",
    "arithmetic/einsum",
    "arithmetic/products",
    "layers/attention_grouped",
    "layers/lstm_with_projection",
    "shapes/arange_of_the_batch",
    "shapes/repeat_by_an_unknown_number",
    "shapes/roll",
    "shapes/zeros_of_a_size",
]


def converted(case, target, folder):
    """The verdict of a case in a target: of three rows at first, then of two others."""
    fewer = [np.concatenate([a[-1:], a[:1]]) if len(a) > 2 else a[-1:] for a in case.inputs]
    samples = {"typical": list(case.inputs), "fewer": fewer}
    return export_to(program_hub(folder / "hub", case.function, samples, shared_batch=True), target, folder)


@pytest.mark.parametrize("target", ["keras", "tflite"])
@pytest.mark.parametrize("name", QUICK)
def test_some_operators_become_what_the_page_says(tmp_path, name, target):
    becomes_what_the_page_says(tmp_path, name, target)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["keras", "tflite", "onnx"])
@pytest.mark.parametrize("name", [f"{topic}/{name}" for topic, cases in CASES.items() for name in cases])
def test_all_operators_become_what_the_page_says(tmp_path, name, target):
    becomes_what_the_page_says(tmp_path, name, target)


def becomes_what_the_page_says(tmp_path, name, target):
    """Verified, or refused as unsupported, or wrong and found to be."""
    said = NOTES[name].get(target, "verified")  # of what was not noted, all that is known is that it should be
    if said.startswith("verified"):
        result = converted(ALL[name], target, tmp_path)
        assert result.verification.passed, result.verification.message
    elif said.startswith("wrong"):
        assert not converted(ALL[name], target, tmp_path).verification.passed
    else:
        with pytest.raises(UnsupportedError):
            converted(ALL[name], target, tmp_path)


@pytest.mark.parametrize("name", ["full_of_a_buffer", "full_of_a_learned_number"])
def test_numbers_of_weights_fill_tensors_below_opset_18(tmp_path, name):
    result = converted(ALL[f"shapes/{name}"], "onnx-11", tmp_path)
    assert result.verification.passed, result.verification.message


def test_page_is_that_of_the_notes_and_of_torchs_list():
    assert set(NOTES) == set(ALL)
    assert operators_page.PAGE.read_text() == operators_page.page(NOTES)


def test_every_core_operator_has_a_way_or_a_sentence():
    without = [str(op) for op in operators_page.core_operators() if not operators_page.keras_way(op)]
    assert without == []
