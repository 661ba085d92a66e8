"""Models that call torchvision's operators, which do not load beside a CPU build of torch, from file to file."""

import numpy as np
import onnx
import pytest
import torch
from detectors import ARGUMENTS, write_detector, write_network
from export_keras import export_model as export_keras
from export_onnx import export_model
from export_tflite import export_model as export_tflite
from pytorch_hub import import_file
from special_hubs import export_to, program_hub

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub
from converter.torch.extensions.exported_detection import followable_detection, heatmaps_to_keypoints
from converter.torch.extensions.vision import import_torchvision

pytestmark = pytest.mark.skipif(import_torchvision() is None, reason="needs torchvision")

BOXES = """
import torch
from torchvision.ops import batched_nms


class Boxes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Conv2d(3, 6, 4, 4)

    def forward(self, image):
        found = self.head(image)[0].flatten(1).t()
        corner = found[:, :2].sigmoid() * 16
        boxes = torch.cat([corner, corner + found[:, 2:4].exp() * 3], 1)
        scores, labels = found[:, 4:].softmax(1).max(1)
        chosen = scores > 0.6
        boxes, scores, labels = boxes[chosen], scores[chosen], labels[chosen]
        kept = batched_nms(boxes, scores, labels, 0.3)
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
"""


@pytest.fixture
def boxes_hub(tmp_path):
    script = tmp_path / "boxes.py"
    script.write_text(BOXES)
    torch.manual_seed(3)
    head = torch.nn.Conv2d(3, 6, 4, 4)
    torch.save({"head.weight": head.weight.detach() * 2, "head.bias": torch.zeros(6)}, tmp_path / "boxes.pt")
    return import_file(tmp_path / "boxes.pt", tmp_path / "hub", "1,3,16,16", network_script=script)


@pytest.mark.parametrize("opset", [None, 11, 18])
def test_any_number_of_boxes_also_none(boxes_hub, tmp_path, opset):
    hub = Hub.read(boxes_hub.path)
    counts = {len(run.outputs[0]) for run in hub.reference()}
    assert 0 in counts  # of zeros no score is above the threshold
    assert len(counts) > 2
    assert [(spec.name, spec.shape) for spec in hub.outputs] == [
        ("boxes", (None, 4)),
        ("scores", (None,)),
        ("labels", (None,)),
    ]
    result = export_model(hub, ExportJob("converted/b.onnx", onnx_opset=opset), tmp_path / "b.onnx")
    assert result.verification.passed
    model = onnx.load(tmp_path / "b.onnx")
    assert [node.op_type for node in model.graph.node].count("NonMaxSuppression") == 1
    assert [len(value.type.tensor_type.shape.dim) for value in model.graph.output] == [2, 1, 1]
    assert not any(value.type.tensor_type.shape.dim[0].dim_value for value in model.graph.output)


def test_what_replaces_torchvisions_functions_computes_the_same():
    from torchvision.models.detection import _utils, roi_heads
    from torchvision.ops import batched_nms, poolers

    make = torch.Generator().manual_seed(0)
    boxes = torch.rand(6, 4, generator=make) * 20
    boxes[:, 2:] += boxes[:, :2] + 1
    scores, labels = torch.rand(6, generator=make), torch.tensor([0, 1, 0, 1, 0, 1])
    masks = torch.rand(6, 1, 28, 28, generator=make)
    maps = torch.randn(6, 5, 14, 14, generator=make)
    features = [torch.randn(1, 2, size, size, generator=make) for size in (32, 16)]
    mapper = poolers.initLevelMapper(0, 1, canonical_scale=14, canonical_level=1)

    def results(count):
        some = boxes[:count]
        return [
            batched_nms(some, scores[:count], labels[:count], 0.1),
            _utils.BoxCoder((1.0, 1, 1, 1)).decode(torch.ones(count, 8), [some]),
            roi_heads.paste_masks_in_image(masks[:count], some, (32, 40)),
            *roi_heads.heatmaps_to_keypoints(maps[:count], some),
            poolers._multiscale_roi_align(features, [some], (3, 2), 2, [1.0, 0.5], mapper),
            poolers._multiscale_roi_align(features[:1], [some], (3, 2), 2, [1.0], mapper),
        ]

    for count in (6, 1, 0):
        expected = results(count)
        with followable_detection():
            found = results(count)
        for one, other in zip(expected, found, strict=True):
            assert one.numel() == other.numel()
            if count:
                torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


class Keypoints(torch.nn.Module):
    def forward(self, maps, rois):
        return heatmaps_to_keypoints(maps, rois)


def test_keypoints_of_any_number_of_boxes(tmp_path):
    """Places are counted in images as large as the largest box needs: divided by a number that is read from the boxes."""
    rng = np.random.default_rng(0)
    corners = rng.random((6, 2), np.float32) * 20
    rois = np.concatenate([corners, corners + 1 + rng.random((6, 2), np.float32) * 20], 1)
    maps = rng.standard_normal((6, 5, 14, 14), np.float32)
    samples = {"typical": [maps, rois], "two": [maps[:2], rois[4:]]}
    hub = program_hub(tmp_path / "hub", Keypoints(), samples, shared_batch=True)
    result = export_to(hub, "onnx-18", tmp_path)
    assert result.verification.passed, result.verification.message


SMALL = """
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator


class Backbone(torch.nn.Module):
    out_channels = 8

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 4, 4)
        self.second = torch.nn.Conv2d(8, 8, 2, 2)

    def forward(self, x):
        x = self.first(x).relu()
        return {"0": x, "1": self.second(x).relu()}


class Single(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.detector = FasterRCNN(
            Backbone(), 3, rpn_anchor_generator=AnchorGenerator(((8,), (16,)), ((0.5, 1.0),) * 2), min_size=32, max_size=48,
            rpn_pre_nms_top_n_test=30, rpn_post_nms_top_n_test=20, box_score_thresh=0.3, box_detections_per_img=10,
        )

    def forward(self, image):
        return self.detector([image])[0]
"""


def test_small_detector_with_a_pyramid_of_features(tmp_path):
    script, weights = write_network(tmp_path, "small", SMALL, (3, 32, 48))
    hub = import_file(weights, tmp_path / "hub", "3,32,48", network_script=script, network_name="Single")
    check_detector(hub, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARGUMENTS)
def test_detectors_of_torchvision(tmp_path, name):
    script, weights = write_detector(tmp_path, name)
    check_detector(import_file(weights, tmp_path / "hub", "3,96,128", network_script=script), tmp_path)


def check_detector(hub, folder):
    """Each image has boxes of its own, and the file finds them; how many there are is not known before."""
    assert hub.unproven is None
    boxes = [run.outputs[0] for run in hub.reference()]
    assert all(map(len, boxes[:4]))
    assert not any(len(boxes[0]) == len(other) and (boxes[0] == other).all() for other in boxes[1:])
    assert all(spec.shape[0] is None for spec in hub.outputs)
    result = export_model(hub, ExportJob("converted/d.onnx"), folder / "d.onnx")
    assert result.verification.passed, result.verification.message
    assert "sym_min" in result.opset_reason  # how many boxes are kept at most is the smaller of two sizes


@pytest.mark.slow  # TensorFlow is imported
def test_deformable_convolution_in_every_format(tmp_path):
    script = tmp_path / "deformable.py"
    script.write_text(DEFORMABLE)
    torch.manual_seed(0)
    scope = {}
    exec(DEFORMABLE, scope)
    torch.save(scope["Net"]().state_dict(), tmp_path / "d.pt")
    hub = import_file(tmp_path / "d.pt", tmp_path / "hub", "1,3,8,9", network_script=script)
    for extension, export in (("onnx", export_model), ("tflite", export_tflite), ("keras", export_keras)):
        result = export(hub, ExportJob(f"converted/d.{extension}"), tmp_path / f"d.{extension}")
        assert result.verification.passed, result.verification.message
        assert result.inputs[0].shape[0] is None


DEFORMABLE = """
import torch
from torchvision.ops import DeformConv2d


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = torch.nn.Conv2d(3, 18, 3, padding=1)
        self.mask = torch.nn.Conv2d(3, 9, 3, padding=1)
        self.convolution = DeformConv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.convolution(x, self.offset(x) * 2, self.mask(x).sigmoid())
"""


@pytest.mark.slow  # TensorFlow is imported
def test_boxes_in_tensorflow_lite_are_refused_by_name_and_line(boxes_hub, tmp_path):
    with pytest.raises(
        UnsupportedError, match=r"index.Tensor in the model's forward \(boxes.py line 17.*depends on the data"
    ):
        export_tflite(boxes_hub, ExportJob("converted/b.tflite"), tmp_path / "b.tflite")
