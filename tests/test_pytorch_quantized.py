"""TorchScript that torch.ao quantized: compared in steps of its outputs over many samples, or refused in a true sentence."""

import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from pytorch_hub import import_file
from pytorch_networks import vary

from converter.contracts import ExportJob
from converter.errors import SourceError
from converter.hub.hub import Run, TensorSpec
from converter.torch.onnx.export import export
from converter.verification.verify import STEPS, Tolerance, verify

pytestmark = pytest.mark.filterwarnings("ignore")


class Convolutions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 8, 3, stride=2)
        self.fc = torch.nn.Linear(72, 5)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.fc(torch.flatten(x, 1))


class Residual(torch.nn.Module):
    """As it is quantized by hand: stubs, and an addition of quantized tensors at the end."""

    def __init__(self):
        super().__init__()
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.a, self.b = torch.nn.Linear(6, 6), torch.nn.Linear(6, 6)
        self.sum = torch.ao.nn.quantized.FloatFunctional()

    def forward(self, x):
        x = self.quant(x)
        return self.dequant(self.sum.add(self.a(x), self.b(x)))


class Open(Residual):
    def forward(self, x):
        return self.a(self.quant(x))


class Head(torch.nn.Module):
    """Ends in a softmax, whose values lie on no grid, and in a dictionary."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(6, 4)

    def forward(self, x):
        y = self.fc(x)
        return {"logits": y, "shares": torch.softmax(y, 1)}


def calibrated(module, example):
    """By torch.ao's graph mode."""
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapping = torch.ao.quantization.get_default_qconfig_mapping("x86")
        prepared = prepare_fx(vary(module).eval(), mapping, (example,))
        generator = torch.Generator().manual_seed(0)
        for _ in range(4):
            prepared(torch.randn([16, *example.shape[1:]], generator=generator))
        return convert_fx(prepared)


def by_hand(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = vary(module).eval()
        module.qconfig = torch.ao.quantization.get_default_qconfig("x86")
        torch.ao.quantization.prepare(module, inplace=True)
        module(torch.randn(64, 6, generator=torch.Generator().manual_seed(0)))
        return torch.ao.quantization.convert(module)


def imported(folder, script, shape):
    torch.jit.save(script, folder / "net.pt")
    return import_file(folder / "net.pt", folder / "hub", shape, network_script=None)


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_static_quantization_is_compared_in_steps_of_the_output(tmp_path, how):
    example = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))
    module = calibrated(Convolutions(), example)
    script = torch.jit.script(module) if how == "scripted" else torch.jit.trace(module, example)
    hub = imported(tmp_path, script, "1,3,9,9")
    values = np.unique(np.concatenate([run.outputs[0].reshape(-1) for run in hub.reference()]))
    assert hub.outputs[0].step == pytest.approx(np.diff(values).min(), rel=1e-3)
    assert sum(len(run.inputs[0]) for run in hub.reference() if run.kind == "typical") == 64
    assert "steps of their scale" in hub.evidence["steps"]
    result = export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx")
    (entry,) = result.verification.outputs
    assert result.verification.passed
    assert entry["steps_off"] <= 1.01
    assert 0 <= entry["share_off"] <= STEPS.share
    # On rows that no one has seen.
    x = torch.randn(100, 3, 9, 9, generator=torch.Generator().manual_seed(9))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    assert np.abs(found - script(x).numpy()).max() <= 1.01 * hub.outputs[0].step


def test_sum_of_quantized_tensors_has_a_step_too(tmp_path):
    hub = imported(tmp_path, torch.jit.script(by_hand(Residual())), "1,6")
    assert hub.outputs[0].step > 0
    assert export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx").verification.passed


def test_wrong_file_of_a_quantized_model_is_found(tmp_path):
    """A bias half a tenth of the outputs' range off, as a wrong zero point or bias would be."""
    hub = imported(tmp_path, torch.jit.script(by_hand(Residual())), "1,6")
    export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")

    def shifted(arrays):
        return [session.run(None, {session.get_inputs()[0].name: arrays[0]})[0] + hub.outputs[0].step]

    verification = verify(hub.outputs, hub.reference(), shifted, Tolerance())
    assert not verification.passed
    assert "of its values, allowed 10%" in verification.message or "steps of" in verification.message


def test_output_on_no_grid_keeps_the_usual_tolerance(tmp_path):
    hub = imported(tmp_path, torch.jit.script(calibrated(Head(), torch.randn(2, 6))), "1,6")
    steps = {spec.name: spec.step for spec in hub.outputs}
    assert steps["logits"] > 0
    assert steps["shares"] == 0


@pytest.mark.parametrize("how", ["scripted", "traced"])
def test_dynamic_quantization_is_refused_with_a_remedy(tmp_path, how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.ao.quantization.quantize_dynamic(Head().eval(), {torch.nn.Linear}, torch.qint8)
    module = torch.nn.Sequential(module.fc)
    script = torch.jit.script(module) if how == "scripted" else torch.jit.trace(module, torch.randn(2, 6))
    with pytest.raises(SourceError, match=r"quantized dynamically \(quantized::linear_dynamic.*give the float model"):
        imported(tmp_path, script, "1,6")


def test_quantized_result_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"returns a quantized tensor.*end it with dequantize"):
        imported(tmp_path, torch.jit.script(by_hand(Open())), "1,6")


class TestSteps:
    """The rule itself, on an output whose values are multiples of 0.5."""

    @staticmethod
    def compared(change, kind="typical"):
        rng = np.random.default_rng(0)
        expected = 0.5 * rng.integers(-60, 60, (40, 5)).astype(np.float32)
        spec = TensorSpec("y", (None, 5), "float32", step=0.5)
        runs = [Run([expected], [expected], kind)]
        return verify([spec], runs, lambda arrays: [change(arrays[0].copy())], Tolerance())

    @staticmethod
    def moved(count, steps):
        def change(values):
            values.reshape(-1)[:count] += 0.5 * steps
            return values

        return change

    def test_few_values_one_step_off_are_right_and_counted(self):
        verification = self.compared(self.moved(10, 1))
        assert verification.passed
        assert verification.outputs[0]["share_off"] == 0.05
        assert verification.outputs[0]["steps_off"] == 1.0

    def test_too_many_are_wrong(self):
        assert "in 15.0% of its values, allowed 10%" in self.compared(self.moved(30, -1)).message

    def test_two_steps_are_wrong(self):
        assert "2 steps of 0.5 off, allowed 1" in self.compared(self.moved(1, 2)).message

    def test_special_values_have_no_share_but_the_same_step(self):
        assert self.compared(self.moved(60, 1), "zeros").passed
        assert not self.compared(self.moved(1, 2), "zeros").passed

    def test_nan_is_wrong(self):
        assert "NaN" in self.compared(self.moved(1, np.nan)).message

    def test_off_the_grid_within_tolerance_is_right(self):
        assert self.compared(lambda values: values * np.float32(1 + 1e-6)).outputs[0]["share_off"] == 0
