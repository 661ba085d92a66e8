"""Weights and modules out of published packages, where these are installed."""

import importlib.util
from pathlib import Path

import pytest
from pytorch_hub import import_file

from converter.errors import ParameterError, UnsupportedError
from converter.step import ExportJob
from converter.torch.onnx_export import export as export_onnx
from converter.torch.tflite_export import export as export_tflite


def package(name):
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.mark.parametrize(
    ("name", "shape"), [("P", "1,3,-1,-1"), ("P", "1,3,40,52"), ("R", "1,3,24,24"), ("O", "1,3,48,48")]
)
def test_facenet_detectors(tmp_path, name, shape):
    """State dicts of the three networks of MTCNN; the first takes images of any size, in TensorFlow Lite of a known one."""
    folder = package("facenet_pytorch")
    source = (folder / "models" / "mtcnn.py").read_text().replace("from .utils", "# from .utils")
    (tmp_path / "mtcnn.py").write_text(source)
    hub = import_file(
        folder / "data" / f"{name.lower()}net.pt",
        tmp_path / "hub",
        shape,
        network_script=tmp_path / "mtcnn.py",
        network_name=f"{name}Net",
        network_args={"pretrained": False},
    )
    sizes = [None if size == "-1" else int(size) for size in shape.split(",")[1:]]
    assert hub.inputs[0].shape == (None, *sizes)
    onnx_result = export_onnx(hub, ExportJob("m.onnx"), tmp_path / "m.onnx")
    assert (onnx_result.verification.passed, onnx_result.opset) == (True, 10)
    if None in sizes:
        with pytest.raises(UnsupportedError, match="give its sizes in input_shape"):
            export_tflite(hub, ExportJob("m.tflite"), tmp_path / "m.tflite")
    else:
        assert export_tflite(hub, ExportJob("m.tflite"), tmp_path / "m.tflite").verification.passed


def test_silero_vad_is_refused_with_what_stands_in_the_way(tmp_path):
    path = package("silero_vad") / "data" / "silero_vad.jit"
    with pytest.raises(ParameterError, match="argument 'sr' .* is of type int.*constants"):
        import_file(path, tmp_path / "hub", "1,512", network_script=None)
    with pytest.raises(UnsupportedError, match="keeps state from call to call"):
        import_file(path, tmp_path / "hub", "1,512", network_script=None, constants={"sr": 16000})
