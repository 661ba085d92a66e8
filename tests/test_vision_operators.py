"""torchvision's operators in plain torch, against loops over single numbers."""

import numpy as np
import pytest
import torch
import vision_reference as reference
from vision_cases import KINDS, REGIONS, boxes_and_scores, regions

from converter.torch.extensions.box_suppression import float32_threshold
from converter.torch.extensions.vision import import_torchvision, vision_operators

if import_torchvision() is None:
    pytest.skip("needs torchvision", allow_module_level=True)
from torchvision import extension, ops

vision_operators()


def test_torchvision_believes_that_its_operators_are_there():
    assert extension._has_ops()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0.0, 0.1, 1 / 3, 0.5, 1.0])
def test_nms_keeps_what_the_definition_keeps(kind, threshold):
    for count in (0, 1, 2, 23):
        boxes, scores = boxes_and_scores(kind, count)
        kept = ops.nms(boxes, scores, threshold)
        assert kept.dtype == torch.int64
        assert kept.tolist() == reference.nms(boxes.numpy(), scores.tolist(), threshold)


def test_an_overlap_of_exactly_the_threshold_is_kept():
    boxes = torch.tensor([[0.0, 0, 2, 1], [1, 0, 2, 1]])  # 1 of 2
    scores = torch.tensor([1.0, 0.5])
    assert ops.nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert ops.nms(boxes, scores, 0.4999).tolist() == [0]
    assert ops.nms(boxes.double(), scores.double(), 0.5).tolist() == [0, 1]
    assert ops.nms(boxes.half(), scores.half(), 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 0.9, 1 / 3])
def test_threshold_in_float32_parts_the_numbers_as_the_double_does(threshold):
    nearest = np.float32(threshold)
    for overlap in (np.nextafter(nearest, np.float32(0)), nearest, np.nextafter(nearest, np.float32(1))):
        assert (float(overlap) > threshold) == (overlap > np.float32(float32_threshold(threshold)))


def test_batched_nms_suppresses_within_classes_only():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2]])
    kept = ops.batched_nms(boxes, torch.tensor([0.1, 0.3, 0.2]), torch.tensor([0, 1, 1]), 0.5)
    assert kept.tolist() == [1, 0]


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("ratio", [2, -1])
def test_roi_align(kind, ratio):
    features, rois = torch.randn(2, 2, 9, 11, generator=torch.Generator().manual_seed(1)), regions(kind, 4)
    for aligned in (True, False):
        found = ops.roi_align(features, rois, (3, 2), 0.5, ratio, aligned)
        expected = reference.roi_align(features.numpy(), rois.numpy(), (3, 2), 0.5, ratio, aligned)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    wide = ops.roi_align(features.double(), rois.double(), (3, 2), 0.5, ratio, False)
    assert wide.dtype == torch.float64
    np.testing.assert_allclose(wide, expected, atol=1e-5)


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("ratio", [2, -1])
def test_ps_roi_align(kind, ratio):
    features, rois = torch.randn(2, 12, 9, 11, generator=torch.Generator().manual_seed(1)), regions(kind, 3)
    found = ops.ps_roi_align(features, rois, (3, 2), 0.5, ratio)
    expected = reference.roi_align(features.numpy(), rois.numpy(), (3, 2), 0.5, ratio, True, own_channels=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("kind", REGIONS)
def test_pooling_by_pixels(kind):
    features, rois = torch.randn(2, 12, 9, 11, generator=torch.Generator().manual_seed(1)), regions(kind, 4)
    found = ops.roi_pool(features, rois, (3, 2), 0.5)
    np.testing.assert_allclose(found, reference.roi_pool(features.numpy(), rois.numpy(), (3, 2), 0.5), atol=1e-6)
    found = ops.ps_roi_pool(features, rois, (3, 2), 0.5)
    np.testing.assert_allclose(found, reference.ps_roi_pool(features.numpy(), rois.numpy(), (3, 2), 0.5), atol=1e-6)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("groups", "offset_groups"), [(1, 1), (2, 1), (1, 2)])
def test_deform_conv2d(masked, groups, offset_groups):
    make = torch.Generator().manual_seed(1)
    features, weight = torch.randn(2, 4, 6, 7, generator=make), torch.randn(4, 4 // groups, 3, 2, generator=make)
    offset = torch.randn(2, 12 * offset_groups, 3, 7, generator=make) * 3
    mask = torch.rand(2, 6 * offset_groups, 3, 7, generator=make) if masked else None
    bias = torch.randn(4, generator=make)
    given = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)}
    found = ops.deform_conv2d(features, offset, weight, bias, mask=mask, **given)
    numbers = [None if tensor is None else tensor.numpy() for tensor in (features, weight, offset, mask, bias)]
    np.testing.assert_allclose(found, reference.deform_conv2d(*numbers, *given.values()), atol=1e-4)


def test_no_region_and_no_box():
    features, none = torch.randn(1, 4, 5, 5), torch.zeros(0, 5)
    assert ops.roi_align(features, none, 2).shape == (0, 4, 2, 2)
    assert ops.roi_pool(features, none, 2).shape == (0, 4, 2, 2)
    assert ops.ps_roi_align(features, none, 2).shape == (0, 1, 2, 2)
    assert ops.batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0), 0.5).shape == (0,)


def test_a_program_may_keep_no_box():
    """torchvision's own description (0.28) says that at least two boxes are kept."""

    class Kept(torch.nn.Module):
        def forward(self, boxes, scores):
            return boxes[ops.nms(boxes, scores, 0.5)]

    free = {0: torch.export.Dim.AUTO}
    program = torch.export.export(Kept(), boxes_and_scores("proper", 5), dynamic_shapes=(free, free), strict=False)
    one = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]), torch.tensor([0.5, 0.6])
    assert program.module()(*one).tolist() == [[0, 0, 1, 1]]


def test_what_has_no_counterpart_says_so():
    turned = torch.rand(2, 5)
    with pytest.raises(Exception, match="box_iou_rotated of torchvision has no counterpart here"):
        ops.box_iou(turned, turned, fmt="cxcywhr")
