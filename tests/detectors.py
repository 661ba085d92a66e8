"""Scripts and weights of torchvision's detection models, small enough for tests: few boxes, small images, four classes."""

import torch

SCRIPT = """
import torch
from torchvision.models import detection

FEW = {{"weights": None, "weights_backbone": None, "num_classes": {classes}}}
REGIONS = {{
    "box_score_thresh": 0.15, "rpn_nms_thresh": 0.9, "min_size": 96, "max_size": 128, "rpn_pre_nms_top_n_test": 30,
    "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 20,
}}
ANCHORS = {{"min_size": 96, "max_size": 128, "score_thresh": 0.3, "topk_candidates": 20, "detections_per_img": 20}}
BOXES = {{"score_thresh": 0.3, "topk_candidates": 20, "detections_per_img": 20}}


class Single(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.detector = detection.{name}(**FEW, **{arguments})

    def forward(self, image):
        return self.detector([image])[0]
"""

ARGUMENTS = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": "REGIONS",
    "fasterrcnn_mobilenet_v3_large_fpn": "REGIONS",
    "fasterrcnn_resnet50_fpn": "REGIONS",
    "fasterrcnn_resnet50_fpn_v2": "REGIONS",
    "maskrcnn_resnet50_fpn": "REGIONS",
    "maskrcnn_resnet50_fpn_v2": "REGIONS",
    "keypointrcnn_resnet50_fpn": "REGIONS",
    "retinanet_resnet50_fpn": "ANCHORS",
    "retinanet_resnet50_fpn_v2": "ANCHORS",
    "fcos_resnet50_fpn": "ANCHORS",
    "ssd300_vgg16": "BOXES",
    "ssdlite320_mobilenet_v3_large": "BOXES",
}


def write_detector(folder, name):
    """Paths of a script with the class Single, and of weights with which images give boxes of their own."""
    classes = 2 if name.startswith("keypoint") else 4
    text = SCRIPT.format(name=name, arguments=ARGUMENTS[name], classes=classes)
    return write_network(
        folder,
        name,
        text,
        (3, 96, 128),
        scale_backbone=name.startswith("ssdlite") or name.endswith("rcnn_resnet50_fpn_v2"),
    )


def write_network(folder, name, text, size, *, scale_backbone=False):
    """The same for a script of this text and images of this size (C, H, W)."""
    script, weights = folder / f"{name}.py", folder / f"{name}.pt"
    script.write_text(text)
    torch.manual_seed(0)
    scope = {}
    exec(compile(text, str(script), "exec"), scope)
    network = scope["Single"]().eval()
    enliven(network.detector, list(torch.randn(8, *size)), scale_backbone=scale_backbone)
    masks = getattr(getattr(network.detector, "roi_heads", None), "mask_predictor", None)
    if masks is not None:
        # Else masks change within a pixel so much that torch's own float32 is as far from float64 as is allowed (8.7e-5).
        masks.mask_fcn_logits.weight.data *= 0.3
    torch.save(network.state_dict(), weights)
    return script, weights


def enliven(network, images, *, scale_backbone):
    """Shift and scale layers with a bias so that each of their channels has mean 0 and about variance 1 on the images.

    Of networks as they are initialized all boxes are alike, whatever the image. scale_backbone: bring what goes into batch
    normalizations to the variance 1 too, where it fades. More would make networks that amplify rounding.
    """

    def adjust(module, given, result):
        handles.pop(module).remove()
        normal = not isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
        values = given[0] if normal else result
        axes = [axis for axis in range(values.dim()) if axis != (1 if values.dim() == 4 else values.dim() - 1)]
        mean, variance = values.mean(axes), values.var(axes)
        if values.numel() < 8 * len(mean):
            return result
        spread = (variance + variance.mean() + 1e-9).sqrt()  # a channel that hardly varies is not blown up
        if normal:
            module.running_var.fill_(variance.mean())
        else:
            module.weight.data /= spread.reshape(-1, *[1] * (module.weight.dim() - 1))
            module.bias.data.copy_((module.bias.data - mean) / spread)
        return module.forward(*given)

    handles = {
        module: module.register_forward_hook(adjust)
        for module in network.modules()
        if (scale_backbone and hasattr(module, "running_var"))
        or (isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.bias is not None)
    }
    with torch.no_grad():
        network(images)
    for handle in handles.values():
        handle.remove()
