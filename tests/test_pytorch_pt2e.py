"""Programs that PyTorch 2's quantization made: integers and their scales in ONNX, the same numbers in all targets."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pytorch_hub import import_file
from pytorch_networks import vary
from special_hubs import export_to
from torch import nn

from converter.errors import SourceError


class Net(nn.Module):
    """(N, 3, 12, 12) -> (N, 4)."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6 * 5 * 5, 4)

    def forward(self, image):
        return self.fc(nn.functional.max_pool2d(self.conv(image).relu(), 2).flatten(1))


class Encoder(nn.Module):
    """A block of a transformer, (N, 6, 16) -> (N, 6, 16)."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.LayerNorm(16)])
        self.query, self.key, self.value, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.wide, self.narrow = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x):
        y = self.norms[0](x)
        query, key, value = (
            part(y).unflatten(2, (2, 8)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        attention = (query @ key.transpose(2, 3) / 8**0.5).softmax(-1)
        x = x + self.out((attention @ value).transpose(1, 2).flatten(2))
        return x + self.narrow(nn.functional.gelu(self.wide(self.norms[1](x))))


def quantized(path, per_channel=True, dynamic=False, network=Net, size=(3, 12, 12)):
    """The program that torchao makes of a network, saved; and its module."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.testing.pt2e._xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config

    torch.manual_seed(0)
    example = (torch.randn(4, *size),)
    shapes = ({0: torch.export.Dim("n", max=256)},)
    module = torch.export.export(vary(network()).eval(), example, dynamic_shapes=shapes).module()
    config = get_symmetric_quantization_config(is_per_channel=per_channel, is_dynamic=dynamic)
    prepared = prepare_pt2e(module, XNNPACKQuantizer().set_global(config))
    for _ in range(4):
        prepared(torch.randn(4, *size))
    program = torch.export.export(convert_pt2e(prepared), example, dynamic_shapes=shapes)
    torch.export.save(program, path)
    return program.module()


@pytest.mark.parametrize("per_channel", [False, True])
def test_quantized_program_in_every_target(tmp_path, per_channel):
    module = quantized(tmp_path / "net.pt2", per_channel)
    hub = import_file(tmp_path / "net.pt2", tmp_path / "hub", network_script=None)
    assert hub.outputs[0].step > 0 and sum(len(run.inputs[0]) for run in hub.reference()) >= 64
    for run in hub.reference()[:3]:
        np.testing.assert_array_equal(run.outputs[0], module(torch.from_numpy(run.inputs[0])).detach().numpy())
    for target in ("onnx", "tflite", "keras"):
        verification = export_to(hub, target, tmp_path).verification
        assert verification.passed, (target, verification.message)
    (path,) = tmp_path.glob("*.onnx")
    model = onnx.load(path)
    # Both layers take integers that are dequantized, and their weights are kept as such.
    made_by = {output: node for node in model.graph.node for output in node.output}
    kept = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) == 2
    for node in layers:
        activation, weight = (made_by[name] for name in node.input[:2])
        while activation.op_type in ("Flatten", "Reshape", "MaxPool"):
            activation = made_by[activation.input[0]]
        while weight.op_type == "Transpose":
            weight = made_by[weight.input[0]]
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        assert kept[weight.input[0]] == onnx.TensorProto.INT8
    x = torch.randn(5, 3, 12, 12)
    given = onnxruntime.InferenceSession(path).run(None, {"image": x.numpy()})[0]
    steps = np.abs(given - module(x).detach().numpy()) / hub.outputs[0].step
    assert steps.max() < 1.5 and (steps > 0.5).mean() < 0.2


def test_a_block_of_a_transformer(tmp_path):
    module = quantized(tmp_path / "net.pt2", network=Encoder, size=(6, 16))
    hub = import_file(tmp_path / "net.pt2", tmp_path / "hub", network_script=None)
    assert export_to(hub, "onnx", tmp_path).verification.passed
    (path,) = tmp_path.glob("*.onnx")
    model = onnx.load(path)
    integers = [
        tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    ]
    assert sorted(list(tensor.dims) for tensor in integers if len(tensor.dims) == 2) == [[16, 16]] * 4 + [
        [16, 32],
        [32, 16],
    ]
    x = torch.randn(5, 6, 16)
    given = onnxruntime.InferenceSession(path).run(None, {hub.inputs[0].name: x.numpy()})[0]
    difference = np.abs(given - module(x).detach().numpy())
    assert (difference > 1e-4).mean() < 0.1  # values on the border of two steps


def test_quantized_program_that_is_exported_again_for_one_batch(tmp_path):
    quantized(tmp_path / "net.pt2")
    hub = import_file(tmp_path / "net.pt2", tmp_path / "hub", network_script=None, batch=2)
    assert hub.inputs[0].shape[0] == 2 and hub.outputs[0].step > 0
    for target in ("onnx", "tflite"):
        assert export_to(hub, target, tmp_path).verification.passed


def test_scales_that_are_chosen_while_it_runs_are_refused(tmp_path):
    quantized(tmp_path / "net.pt2", dynamic=True)
    with pytest.raises(
        SourceError, match=r"quantized in a way that no file can hold \(quantized_decomposed::choose_qparams"
    ):
        import_file(tmp_path / "net.pt2", tmp_path / "hub", network_script=None)
