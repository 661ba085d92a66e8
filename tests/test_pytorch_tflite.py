"""PyTorch to TensorFlow Lite: both routes, channels-last or not, the batch free where that can be."""

import numpy as np
import pytest
import torch
from pytorch_hub import import_file, network, saved

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.torch.tflite import batch
from converter.torch.tflite import export as tflite_export
from converter.torch.tflite.export import export
from converter.verification.runtimes import TFLiteModel


def hub_of(tmp_path, name, shape, **arguments):
    return import_file(saved(tmp_path, name, **arguments), tmp_path / "hub", shape)


def converted(tmp_path, name, shape, layout="nhwc", **arguments):
    path = tmp_path / "model.tflite"
    return export(
        hub_of(tmp_path, name, shape, **arguments), ExportJob("model.tflite", input_layout=layout), path
    ), path


def test_image_network_is_channels_last_with_a_free_batch(tmp_path):
    result, path = converted(tmp_path, "UNet", "1,3,16,16")
    assert result.verification.passed
    assert result.route == ["torch_to_keras", "export_tflite"]
    assert "input x is channels-last: its axes are axes [0, 2, 3, 1] of the source's" in result.notes
    assert [(spec.name, spec.shape) for spec in result.inputs] == [("x", (None, 16, 16, 3))]
    assert [(spec.name, spec.shape) for spec in result.outputs] == [("output", (None, 16, 16, 2))]
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    (actual,) = TFLiteModel(path).run([x.permute(0, 2, 3, 1).contiguous().numpy()])
    expected = network("UNet")(x).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_layout_of_the_source_on_request(tmp_path):
    result, path = converted(tmp_path, "Pieces", "1,3,9,9", "nchw")
    assert result.verification.passed
    assert all("TRANSPOSE" in note for note in result.notes)  # none on layouts
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(3))
    (actual,) = TFLiteModel(path).run([x.numpy()])
    np.testing.assert_allclose(actual, network("Pieces")(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_two_inputs_keep_their_names_and_order(tmp_path):
    result, path = converted(tmp_path, "TwoInputs", "1,4;1,6")
    assert result.verification.passed
    assert [spec.name for spec in result.inputs] == ["left", "right"]
    assert [spec.name for spec in result.outputs] == ["sum", "scaled"]
    assert {spec.name for spec in TFLiteModel(path).inputs} == {"left", "right"}


@pytest.mark.parametrize(("name", "shape", "arguments"), [("Tokens", "1,7", {"rnn": "GRU"}), ("Encoder", "1,7,16", {})])
def test_sequence_networks_keep_a_free_batch(tmp_path, name, shape, arguments):
    result, _ = converted(tmp_path, name, shape, **arguments)
    assert result.verification.passed
    assert result.inputs[0].shape[0] is None


@pytest.fixture
def only_litert(monkeypatch):
    monkeypatch.setattr(tflite_export, "_routes", lambda: [tflite_export._by_litert])


def test_by_litert_the_batch_is_freed_again(tmp_path, only_litert):
    result, path = converted(tmp_path, "UNet", "1,3,16,16")
    assert result.verification.passed
    assert result.route == ["export_tflite", "litert-torch"]
    assert result.inputs[0].shape == (None, 16, 16, 3)
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    (actual,) = TFLiteModel(path).run([x.permute(0, 2, 3, 1).contiguous().numpy()])
    expected = network("UNet")(x).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_by_litert_a_recurrent_network_has_a_batch_of_one(tmp_path, only_litert):
    result, _ = converted(tmp_path, "Tokens", "1,7")
    assert result.verification.passed
    assert result.verification.samples >= 4  # more where they exercise more of the model
    assert result.inputs[0].shape == (1, 7)
    assert result.inputs[0].dtype == "int64"
    assert any("the batch is fixed at 1" in note for note in result.notes)


def test_what_keras_refuses_goes_by_litert(tmp_path, monkeypatch):
    from converter.torch.tflite import keras_route

    def refuse(*args, **kwargs):
        raise UnsupportedError("aten.odd in forward (net.py line 3) has no Keras counterpart")

    monkeypatch.setattr(keras_route, "tensorflow_hub", refuse)
    result, _ = converted(tmp_path, "Net", "1,3,16,16")
    assert result.verification.passed
    assert result.route == ["export_tflite", "litert-torch"]
    assert any("not made by Keras: aten.odd in forward (net.py line 3)" in note for note in result.notes)


def test_integer_shift(tmp_path):
    """litert-torch has no lowering of it; negative numbers show a division that rounds to zero."""

    class Shift(torch.nn.Module):
        def forward(self, x):
            return (x >> 2) * 3 + (x << 1)

    torch.jit.save(torch.jit.script(Shift()), tmp_path / "shift.pt")
    hub = import_file(tmp_path / "shift.pt", tmp_path / "hub", "int32:1,6", network_script=None)
    result = export(hub, ExportJob("model.tflite"), tmp_path / "model.tflite")
    assert result.verification.passed
    x = np.array([[-7, -4, -1, 0, 5, 100]], np.int32)
    (actual,) = TFLiteModel(tmp_path / "model.tflite").run([x])
    np.testing.assert_array_equal(actual, (x >> 2) * 3 + (x << 1))


def test_control_flow_is_refused_with_its_place(tmp_path):
    with pytest.raises(UnsupportedError, match=r"pytorch_networks.py, line \d+.*ask for an .onnx file"):
        converted(tmp_path, "Branches", "1,4")


def test_no_route_names_the_operator_and_its_line(tmp_path):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    torch.jit.save(torch.jit.script(Odd()), tmp_path / "odd.pt")
    hub = import_file(tmp_path / "odd.pt", tmp_path / "hub", "1,4", network_script=None)
    with pytest.raises(UnsupportedError, match=r"bessel_j0.*test_pytorch_tflite.py,? line \d+"):
        export(hub, ExportJob("model.tflite"), tmp_path / "model.tflite")
    assert not list(tmp_path.glob("model.tflite*"))


def test_a_batch_freed_wrongly_is_found_out(tmp_path, monkeypatch, only_litert):
    """Freed in a place that does not hold the batch, the file is wrong: the one with a batch of 1 is taken."""
    right = batch.with_free_batch

    def wrong(model):
        freed = right(model)
        for tensor in freed.subgraphs[0].tensors:
            buffer = freed.buffers[tensor.buffer]
            if tensor.type == 0 and buffer.data is not None and len(tensor.shape) == 4 and tensor.shape[1] == 3:
                buffer.data = np.zeros_like(np.asarray(buffer.data))
        return freed

    monkeypatch.setattr(tflite_export, "with_free_batch", wrong)
    result, _ = converted(tmp_path, "UNet", "1,3,16,16")
    assert result.inputs[0].shape[0] == 1


def test_same_bytes_again(tmp_path):
    hub = hub_of(tmp_path, "Net", "1,3,16,16")
    for name in ("a", "b"):
        export(hub, ExportJob("model.tflite"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
