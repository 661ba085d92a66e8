"""Poolings of regions as products of matrices: in torch, against the operators, and in files without such operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub
from vision_cases import REGIONS, regions

from converter.torch.extensions import composed_regions
from converter.torch.extensions.vision import import_torchvision

if import_torchvision() is None:
    pytest.skip("needs torchvision", allow_module_level=True)
from torchvision import ops


def features(images, seed=0):
    return torch.randn(images, 12, 9, 11, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("ratio", [2, 3, -1])
@pytest.mark.parametrize("images", [1, 2])
def test_aligned_regions(kind, ratio, images):
    given = features(images), regions(kind, 9, images), 0.5, 3, 2, ratio
    for aligned in (True, False):
        expected = torch.ops.torchvision.roi_align(*given, aligned)
        torch.testing.assert_close(composed_regions.roi_align(*given, aligned), expected, atol=2e-6, rtol=1e-5)
    expected, channels = torch.ops.torchvision.ps_roi_align(*given)
    found, own = composed_regions.ps_roi_align(*given)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5, equal_nan=True)
    assert (own == channels).all()


def test_samples_of_large_and_of_tiny_bins():
    """As many as a bin is long: 40 of which most lie beyond the image, and one for all that is shorter than a pixel."""
    sizes = torch.cat([torch.linspace(0.01, 3, 40), torch.linspace(3, 240, 60)])
    rois = torch.zeros(100, 5)
    rois[:, 1:3] = torch.linspace(8, -90, 100)[:, None]
    rois[:, 3:] = rois[:, 1:3] + sizes[:, None] * torch.tensor([1.0, 0.7])
    given = features(1), rois, 1.0, 3, 2, 0, True
    expected = torch.ops.torchvision.roi_align(*given)
    assert (expected != 0).any(dim=(1, 2, 3)).sum() > 50
    torch.testing.assert_close(composed_regions.roi_align(*given), expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", REGIONS)
def test_regions_of_whole_pixels(kind):
    given = features(2), regions(kind, 9), 0.5, 3, 2
    for name in ("roi_pool", "ps_roi_pool"):
        expected = getattr(torch.ops.torchvision, name)(*given)[0]
        torch.testing.assert_close(getattr(composed_regions, name)(*given)[0], expected)


def all_of_them(image, rois):
    return (
        ops.roi_align(image, rois, (3, 2), 0.5, 2, True),
        ops.roi_align(image, rois, (3, 2), 0.5, -1, False),
        ops.ps_roi_align(image, rois, (3, 2), 0.5, 2),
        ops.roi_pool(image, rois, (3, 2), 0.5),
        ops.ps_roi_pool(image, rois, (3, 2), 0.5),
    )


@pytest.mark.slow  # TensorFlow is imported
@pytest.mark.parametrize("target", ["tflite", "keras", "onnx"])
def test_files_with_regions_of_any_number(tmp_path, target):
    function = all_of_them if target != "onnx" else lambda image, rois: ops.ps_roi_pool(image, rois, (3, 2), 0.5)
    sizes = {"typical": (2, 4), "another": (2, 6), "third": (3, 3)}
    samples = {
        kind: [features(images, seed).numpy(), regions("proper", count, images, seed).numpy()]
        for seed, (kind, (images, count)) in enumerate(sizes.items())
    }
    hub = program_hub(tmp_path / "hub", function, samples)
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message
    assert [spec.shape[0] for spec in (*result.inputs, *result.outputs)] == [None] * (2 + len(hub.outputs))
    assert all(np.ptp(y) > 0 for y in hub.reference()[0].outputs)
