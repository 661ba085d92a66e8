"""Models that call torchvision's compiled operators, which do not load beside a CPU build of torch."""

import pytest
import torch
from pytorch_hub import import_file

from converter.errors import UnsupportedError
from converter.torch.extensions.vision import import_torchvision

pytestmark = pytest.mark.skipif(import_torchvision() is None, reason="needs torchvision")

NETWORK = """
import torch
import torchvision


class Boxes(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(6, 5)

    def forward(self, rows):
        found = self.head(rows)
        corner = found[:, :2]
        boxes = torch.cat([corner, corner + found[:, 2:4].exp()], 1)
        {call}
"""
CALLS = {
    "nms": "return boxes[torchvision.ops.nms(boxes, found[:, 4], 0.5)]",
    "roi_pool": "return torchvision.ops.roi_pool(rows[None, None], [boxes], 2)",
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("shape", ["8,6", "-1,6"])
def test_missing_operator_is_named_and_the_remedy_works(tmp_path, name, shape):
    from torchvision import extension

    if extension._has_ops():
        pytest.skip("torchvision's operators load here")
    script = tmp_path / "boxes.py"
    script.write_text(NETWORK.format(call=CALLS[name]))
    layer = torch.nn.Linear(6, 5)
    torch.save({f"head.{key}": value for key, value in layer.state_dict().items()}, tmp_path / "boxes.pt")
    with pytest.raises(UnsupportedError, match=rf"boxes.pt calls {name} of torchvision.*take that call out of forward"):
        import_file(tmp_path / "boxes.pt", tmp_path / "hub", shape, network_script=script)
    script.write_text(NETWORK.format(call="return boxes, found[:, 4]"))
    assert import_file(tmp_path / "boxes.pt", tmp_path / "hub", shape, network_script=script).operators["exp"] == 1
