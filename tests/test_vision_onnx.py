"""torchvision's operators in ONNX files of both exporters, against the operators themselves."""

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from vision_cases import KINDS, REGIONS, boxes_and_scores, regions

from converter.errors import UnsupportedError
from converter.torch.extensions.vision import import_torchvision
from converter.torch.onnx.vision_symbolics import register_vision
from converter.torch.onnx.vision_translations import translations
from converter.torch.program.eager_program import EagerProgram

if import_torchvision() is None:
    pytest.skip("needs torchvision", allow_module_level=True)
from torchvision import ops

FREE = {0: torch.export.Dim.AUTO}


class Calls(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def converted(function, example, opset, *, dynamo):
    """Runs the function's ONNX file; the first dimension of each input is free."""
    program = torch.export.export(Calls(function), example, dynamic_shapes=((FREE,) * len(example),), strict=False)
    names = [f"x{index}" for index in range(len(example))]
    if dynamo:
        model = torch.onnx.export(
            program, (), dynamo=True, opset_version=opset, input_names=names, verbose=False,
            custom_translation_table=translations(program),
        ).model_proto  # fmt: skip
    else:
        register_vision(range(7, 21))
        buffer = io.BytesIO()
        torch.onnx.export(
            EagerProgram(program), example, buffer, dynamo=False, opset_version=opset, input_names=names,
            dynamic_axes={name: [0] for name in names}, training=torch.onnx.TrainingMode.PRESERVE,
        )  # fmt: skip
        model = onnx.load_model_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    kinds = [node.op_type for node in model.graph.node]
    taken = {value.name for value in session.get_inputs()}  # not what nothing reads

    def run(*tensors):
        return session.run(None, {n: x.numpy() for n, x in zip(names, tensors, strict=True) if n in taken})[0]

    return run, kinds


EXPORTERS = [(True, 18), (False, 11)]


@pytest.mark.parametrize(("dynamo", "opset"), EXPORTERS)
@pytest.mark.parametrize("threshold", [0.0, 0.1, 2.0])
def test_nms_keeps_the_same_boxes_in_the_same_order(dynamo, opset, threshold):
    run, kinds = converted(
        lambda boxes, scores: ops.nms(boxes, scores, threshold), boxes_and_scores("grid", 9), opset, dynamo=dynamo
    )
    assert kinds.count("NonMaxSuppression") == 1
    for kind in KINDS:
        for count in (0, 1, 2, 30, 100):
            given = boxes_and_scores(kind, count, seed=7)
            kept = run(*given)
            assert kept.dtype == np.int64
            assert kept.tolist() == ops.nms(*given, threshold).tolist(), (kind, count)


@pytest.mark.parametrize("dynamo", [True, False])
def test_what_nonmaxsuppression_cannot_do_is_said(dynamo):
    boxes, scores = boxes_and_scores("grid", 9)
    with pytest.raises(Exception, match="iou_threshold -0.1") as raised:
        converted(lambda boxes, scores: ops.nms(boxes, scores, -0.1), (boxes, scores), 18, dynamo=dynamo)
    if not dynamo:
        assert raised.type is UnsupportedError
    with pytest.raises(Exception, match="computes in float32"):
        converted(lambda b, s: ops.nms(b, s, 0.5), (boxes.double(), scores.double()), 18, dynamo=dynamo)


@pytest.mark.parametrize(("dynamo", "opset"), [(True, 18), (False, 17)])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [2, -1])
def test_roi_align(dynamo, opset, aligned, ratio):
    def function(features, rois):
        return ops.roi_align(features, rois, (3, 2), 0.5, ratio, aligned)

    features = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    run, kinds = converted(function, (features, regions("proper", 4)), opset, dynamo=dynamo)
    assert "RoiAlign" in kinds
    check_regions(run, function, features)


def check_regions(run, function, features):
    for kind in REGIONS:
        for count in (0, 1, 12):
            rois = regions(kind, count, seed=count)
            np.testing.assert_allclose(run(features, rois), function(features, rois), atol=1e-5, err_msg=kind)


@pytest.mark.parametrize(("dynamo", "opset"), [(True, 18), (False, 11)])
def test_roi_pool(dynamo, opset):
    def function(features, rois):
        return ops.roi_pool(features, rois, (3, 2), 0.5)

    features = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    run, kinds = converted(function, (features, regions("proper", 4)), opset, dynamo=dynamo)
    assert "MaxRoiPool" in kinds
    check_regions(run, function, features)


@pytest.mark.parametrize("ratio", [2, -1])
def test_ps_roi_align(ratio):
    def function(features, rois):
        return ops.ps_roi_align(features, rois, (3, 2), 0.5, ratio)

    features = torch.randn(2, 12, 9, 11, generator=torch.Generator().manual_seed(0))
    run, _ = converted(function, (features, regions("proper", 4)), 18, dynamo=True)
    check_regions(run, function, features)


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_deform_conv2d(dynamo, masked):
    make = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 2, 3, 3, generator=make), torch.randn(6, generator=make)

    def function(features, offset, mask):
        return ops.deform_conv2d(
            features, offset, weight, bias, stride=2, padding=1, mask=mask if masked else None
        )  # fmt: skip

    given = torch.randn(2, 4, 9, 11, generator=make), torch.randn(2, 36, 5, 6, generator=make), torch.rand(2, 18, 5, 6)
    run, kinds = converted(function, given, 19, dynamo=dynamo)
    assert "DeformConv" in kinds
    for scale in (1, 5, 100):
        moved = given[0], given[1] * scale, given[2]
        np.testing.assert_allclose(run(*moved)[..., :], function(*moved), atol=1e-4)
