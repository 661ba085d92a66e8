"""ONNX models with sequences or optionals as inputs or outputs: other opsets verified by their tensors, other formats refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, parser

from converter.onnx.containers import containers_of, tensors_only
from converter.onnx.core.graphs import replace_fields

PAIRS = """<ir_version: 8, opset_import: ["" : 17]>
g (seq(float[2, 3]) parts, float[2, 3] x) => (seq(float[2, 3]) more, float[2, 3] y) <int64 zero = {0}> {
    more = SequenceInsert (parts, x)
    first = SequenceAt (parts, zero)
    y = Sub (first, x)
}"""
OPTIONAL = """<ir_version: 8, opset_import: ["" : 18]>
g (optional(seq(float[4])) maybe) => (float[4] y, optional(float[4]) again) <int64 zero = {0}> {
    parts = OptionalGetElement (maybe)
    x = SequenceAt (parts, zero)
    y = Tanh (x)
    again = Optional (y)
}"""


def run(model, *arrays):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((entry.name for entry in session.get_inputs()), arrays, strict=True)))


def test_a_model_of_tensors_is_itself():
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    )
    assert tensors_only(model, {}) is model and containers_of(model) == {}


def test_sequences_are_their_tensors():
    model = parser.parse_model(PAIRS)
    plain = tensors_only(model, {"more": 3})
    assert containers_of(model) == {"parts": "sequence", "more": "sequence"} and containers_of(plain) == {}
    assert [entry.name for entry in plain.graph.input] == ["parts_0", "parts_1", "x"]
    a, b, x = (np.full((2, 3), number, np.float32) for number in (1, 2, 5))
    length, *rest = run(plain, a, b, x)
    assert length == 3 and [float(array[0, 0]) for array in rest] == [1, 2, 5, -4]
    (sequence, y) = run(model, [a, b], x)  # what the model itself says
    assert [float(array[0, 0]) for array in sequence] == [1, 2, 5] and float(y[0, 0]) == -4


def test_optionals_are_what_they_hold():
    plain = tensors_only(parser.parse_model(OPTIONAL), {})
    onnx.checker.check_model(plain, full_check=True)
    x = np.float32([0.5, -1, 2, 0])
    for result in run(plain, x, x * 3):
        np.testing.assert_allclose(result, np.tanh(x), rtol=1e-6)


def test_another_opset_keeps_the_sequence_and_others_are_refused(project):
    onnx.save(parser.parse_model(PAIRS), project.folder / "models" / "pairs.onnx")
    jobs = [
        {"convert_from": "models/pairs.onnx", "convert_to": "converted/pairs.onnx", "onnx_opset": 14},
        {"convert_from": "models/pairs.onnx", "convert_to": "converted/pairs.tflite"},
    ]
    result = project.snakemake("-c1", "-k", config={"jobs": jobs})
    assert result.returncode == 1
    assert project.report("pairs.onnx")["status"] == "verified"
    converted = onnx.load(project.folder / "converted" / "pairs.onnx")
    assert converted.opset_import[0].version == 14
    assert converted.graph.input[0].type.HasField("sequence_type")
    reason = project.report("pairs.tflite")["reason"]
    assert "parts is a sequence" in reason and "ask for an .onnx file" in reason


@pytest.mark.parametrize("wrong", ["first", "inserted"])
def test_a_wrong_file_is_noticed(tmp_path, monkeypatch, wrong):
    """Another order of the sequence, or another of its tensors taken: nothing that lengths alone would tell."""
    from conftest import ROOT

    from converter.contracts import ExportJob, ImportSpec
    from converter.onnx import export as exporting

    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import_onnx = __import__("import_onnx")
    onnx.save(parser.parse_model(PAIRS), tmp_path / "m.onnx")
    (tmp_path / "hub").mkdir()
    hub = import_onnx.import_model(ImportSpec(tmp_path / "m.onnx", "onnx"), tmp_path / "hub")
    hub.write()
    assert exporting.export(
        hub, ExportJob("converted/m.onnx", onnx_opset=15), tmp_path / "good.onnx"
    ).verification.passed

    def broken(model, opset):
        graph = model.graph
        graph.initializer.append(helper.make_tensor("one", onnx.TensorProto.INT64, [], [1]))
        nodes = list(graph.node)
        if wrong == "first":
            next(node for node in nodes if node.op_type == "SequenceAt").input[1] = "one"
        else:
            next(node for node in nodes if node.op_type == "SequenceInsert").input.append("one")
        replace_fields(graph.node, nodes)
        return model

    monkeypatch.setattr(exporting, "convert_opset", broken)
    verification = exporting.export(
        hub, ExportJob("converted/m.onnx", onnx_opset=15), tmp_path / "bad.onnx"
    ).verification
    assert not verification.passed
