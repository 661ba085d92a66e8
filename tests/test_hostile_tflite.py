"""TensorFlow Lite files that are read, and that LiteRT itself does not take: one sentence too."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from converter.contracts import ImportSpec
from converter.errors import ConverterError
from converter.tflite.flatbuffer import read, write

sys.path.insert(0, str(ROOT / "scripts"))
from import_tflite import import_model  # noqa: E402


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    weights = tf.constant(np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32))
    function = tf.function(lambda x: tf.nn.softmax(x @ weights), input_signature=[tf.TensorSpec([2, 4], tf.float32)])
    path = tmp_path_factory.mktemp("source") / "m.tflite"
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert())
    return path


def _scale_without_zero_point(model):
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization.scale, tensor.quantization.zeroPoint = np.ones(1, np.float32), None


def _huge_output(model):
    tensor = model.subgraphs[0].tensors[int(model.subgraphs[0].outputs[0])]
    tensor.shape = np.array([2**31 - 1, 2**31 - 1], np.int32)


def _no_operator(model):
    model.subgraphs[0].operators = []


def _options_of_nothing(model):
    model.subgraphs[0].operators[0].builtinOptions = None


@pytest.mark.parametrize("change", [_scale_without_zero_point, _huge_output, _no_operator, _options_of_nothing])
def test_it_ends_in_one_sentence_or_is_right(tmp_path, source, change):
    model = read(source.read_bytes())
    change(model)
    path = tmp_path / "m.tflite"
    write(path, model)
    (tmp_path / "hub").mkdir()
    try:
        hub = import_model(ImportSpec(path, "tflite"), tmp_path / "hub")
    except ConverterError as error:
        assert "\n" not in str(error) and len(str(error)) < 1200
    else:
        whole = tmp_path / "whole"
        whole.mkdir()
        as_it_was = import_model(ImportSpec(source, "tflite"), whole)
        for run, other in zip(hub.reference(), as_it_was.reference(), strict=True):
            assert all(map(np.array_equal, run.outputs, other.outputs))


def test_what_litert_says_is_in_the_sentence(tmp_path, source):
    model = read(source.read_bytes())
    _scale_without_zero_point(model)
    write(tmp_path / "m.tflite", model)
    (tmp_path / "hub").mkdir()
    with pytest.raises(ConverterError, match="LiteRT, which .* does not take it: .*zero_point"):
        import_model(ImportSpec(tmp_path / "m.tflite", "tflite"), tmp_path / "hub")
