"""Operators that a target lacks, written as ones that it has."""

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub

from converter.torch.exact.exact_program import exact_program
from converter.torch.program.hub_program import read_program


def samples(*shape):
    rng = np.random.default_rng(0)
    return {"typical": [rng.standard_normal(shape).astype(np.float32)]}


class Peaks(torch.nn.Module):
    """Largest of windows that overlap, of windows that do not, and along one axis only."""

    def forward(self, x):
        row = torch.nn.functional.adaptive_max_pool1d(x.flatten(2), 4)
        return (
            torch.nn.functional.adaptive_max_pool2d(x, (3, 5)),
            torch.nn.functional.adaptive_max_pool2d(x, (5, 1)),
            row,
        )


@pytest.mark.parametrize("target", ["onnx", "onnx-17", "tflite", "keras"])
def test_adaptive_maximum_to_sizes_that_do_not_divide(tmp_path, target):
    hub = program_hub(tmp_path / "hub", Peaks(), samples(2, 3, 10, 13))
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message


def test_adaptive_maximum_keeps_places_that_are_asked_for(tmp_path):
    def places(x):
        return torch.nn.functional.adaptive_max_pool2d(x, (3, 5), return_indices=True)

    hub = program_hub(tmp_path / "hub", places, samples(2, 3, 10, 13))
    before = read_program(hub)
    x = torch.from_numpy(samples(2, 3, 10, 13)["typical"][0])
    for a, b in zip(exact_program(before, onnx=True).module()(x), places(x), strict=True):
        assert torch.equal(a, b)


class Prefixed(torch.nn.Module):
    """One learned step before those of each row of a batch of any size."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(1, 1, 6))

    def forward(self, x):
        return torch.cat([self.first.repeat(x.shape[0], 1, 1), x * 2], 1)


class PrefixedSteps(Prefixed):
    """The same with the batch second, as in attention whose batch is not first."""

    def forward(self, x):
        steps = x.transpose(0, 1)
        return torch.cat([steps, self.first.repeat(1, x.shape[0], 1)]).transpose(0, 1)


class Doubled(torch.nn.Module):
    """What is repeated is larger than 1: no expansion."""

    def forward(self, x):
        return x[:1].repeat(x.shape[0], 2)


@pytest.mark.parametrize("network", [Prefixed, PrefixedSteps])
@pytest.mark.parametrize("target", ["tflite", "keras"])
def test_row_repeated_for_each_of_the_batch(tmp_path, target, network):
    hub = program_hub(tmp_path / "hub", network(), samples(3, 4, 6))
    result = export_to(hub, target, tmp_path)
    assert result.verification.passed, result.verification.message
    assert result.inputs[0].shape[0] is None


def test_other_repetitions_stay_what_they_are(tmp_path):
    hub = program_hub(tmp_path / "hub", Doubled(), samples(3, 4))
    x = torch.randn(5, 4)
    assert torch.equal(exact_program(read_program(hub)).module()(x), Doubled()(x))


@pytest.mark.parametrize("target", ["tflite", "keras"])
def test_place_of_the_largest_where_zeros_have_signs(tmp_path, target):
    """Keras takes -0.0 for less than 0.0, and computes that by operators for which TensorFlow Lite has no kernel."""
    rows = np.array([[-1, -0.0, 0.0, -3], [2, 2, 0, 1], [0.0, -0.0, 5, 5], [1, 0.0, -0.0, 3]], np.float32)
    places = lambda x: (x.argmax(1), x.argmin(1), x.max(1)[1])  # noqa: E731
    result = export_to(program_hub(tmp_path / "hub", places, {"typical": [rows]}), target, tmp_path)
    assert result.verification.passed, result.verification.message
    assert target == "keras" or result.route[0] == "torch_to_keras"


def test_missing_kernel_is_placed_and_its_remedies_work(tmp_path):
    """Of two means one is of a dtype that TensorFlow Lite does not average; other sizes would not help."""
    from converter.contracts import ExportJob
    from converter.errors import UnsupportedError
    from converter.torch.tflite.export import export

    means = lambda x: (x.mean(1), x.double().mean(2))  # noqa: E731
    hub = program_hub(tmp_path / "hub", means, samples(2, 5, 4))
    with pytest.raises(
        UnsupportedError, match=r"no kernel for Mean \(float64\) \(in [^,]*Mean_?\w*\): write quantization.opsset tf"
    ) as error:
        export(hub, ExportJob("converted/x.tflite"), tmp_path / "x.tflite")
    assert "input_shape" not in str(error.value)
    result = export(hub, ExportJob("converted/x.tflite", quantization={"opsset": "tf"}), tmp_path / "x.tflite")
    assert result.verification.passed
