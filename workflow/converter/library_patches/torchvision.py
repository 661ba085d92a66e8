"""What is replaced in torchvision (0.28)."""

from __future__ import annotations

from types import CodeType

from converter.library_patches.replacing import Patched

__all__ = ["FOLLOWED"]


def _code(place: str) -> Patched:
    return Patched("torchvision", f"torchvision.{place}", "__code__", kind=CodeType)


# Functions that look at their data in Python, by the names that extensions/exported_detection.py has for them.
FOLLOWED = {
    "batched_nms": _code("ops.boxes:batched_nms"),
    "decode": _code("models.detection._utils:BoxCoder.decode"),
    "multiscale_roi_align": _code("ops.poolers:_multiscale_roi_align"),
    "paste_masks_in_image": _code("models.detection.roi_heads:paste_masks_in_image"),
    "heatmaps_to_keypoints": _code("models.detection.roi_heads:heatmaps_to_keypoints"),
}
