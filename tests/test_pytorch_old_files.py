"""Files that torch 1.6.0 and torchvision 0.7.0 wrote, under Python 3.8: data/torch16, with the outputs of that time.

whole.pt, whole_old_format.pt and script.pt hold Net(width=4), lstm.pt Tokens("LSTM"), torchvision.pt a Sequential of
mobilenet.ConvBNReLU(3, 4, stride=2), mobilenet.InvertedResidual(4, 4, 1, 2), GELU and Upsample(scale_factor=2).
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_hub import SCRIPT, import_file

from converter.contracts import ExportJob
from converter.errors import UntrustedError
from converter.torch.onnx.export import export
from converter.torch.sources.loading import load_source

FOLDER = Path(__file__).parent / "data" / "torch16"
IMAGES = (np.arange(2 * 3 * 16 * 16, dtype=np.float32).reshape(2, 3, 16, 16) / 500) - 1
TOKENS = np.arange(14).reshape(2, 7)


def load(name, script=SCRIPT):
    from converter.contracts import ImportSpec

    return load_source(ImportSpec(FOLDER / name, "pytorch", network_script=script))


@pytest.mark.parametrize(
    ("name", "output", "array"),
    [
        ("whole.pt", "net", IMAGES),
        ("whole_old_format.pt", "net", IMAGES),
        ("script.pt", "net", IMAGES),
        ("lstm.pt", "lstm", TOKENS),
        ("torchvision.pt", "mb", IMAGES),
    ],
)
def test_same_outputs_as_then(name, output, array):
    if name == "torchvision.pt":
        pytest.importorskip("PIL")
        from converter.torch.extensions.vision import import_torchvision

        if import_torchvision() is None:
            pytest.skip("torchvision is not installed")
    source = load(name, None if name in ("torchvision.pt", "script.pt") else SCRIPT)
    with torch.no_grad():
        actual = source.module(torch.from_numpy(array)).numpy()
    expected = np.load(FOLDER / "outputs.npz")[output]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["whole.pt", "whole_old_format.pt"])
def test_their_classes_are_on_no_list_without_the_script(name):
    with pytest.raises(UntrustedError, match=r"pytorch_networks\.Net"):
        load(name, None)


def test_old_format_converts(tmp_path):
    hub = import_file(FOLDER / "whole_old_format.pt", tmp_path / "hub", "1,3,16,16")
    result = export(hub, ExportJob("model.onnx"), tmp_path / "model.onnx")
    assert result.verification.passed
    assert result.opset == 10


def test_names_are_read_without_unpickling():
    from converter.torch.trust.pickles import globals_in_file

    for name in ("whole.pt", "whole_old_format.pt"):
        names = globals_in_file(FOLDER / name)
        assert "pytorch_networks.Net" in names
        assert "torch.nn.modules.conv.Conv2d" in names
