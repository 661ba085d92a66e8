"""What TensorFlow Lite has no kernel for: bits of whole numbers, numbers seen as others of their width, the error function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from special_hubs import export_to, program_hub

from converter.verification.runtimes import TFLiteModel


class Bits(torch.nn.Module):
    def forward(self, a, b):
        return a & b, a | b


@pytest.mark.parametrize("dtype", ["int16", "int32"])
def test_every_bit_counts(tmp_path, dtype):
    """In numbers of both signs up to the ends of their range: the sign is a bit as any other."""
    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    ends = np.array([limits.min, limits.min + 1, -1, 0, 1, limits.max - 1, limits.max], dtype)
    a, b = (array.reshape(-1) for array in np.meshgrid(ends, ends))
    more = [rng.integers(limits.min, limits.max, 200, dtype, endpoint=True) for _ in range(2)]
    samples = [np.concatenate([x, y])[None] for x, y in zip((a, b), more, strict=True)]
    hub = program_hub(tmp_path / "hub", Bits(), {"typical": samples})
    assert export_to(hub, "tflite", tmp_path).verification.passed
    both, either = TFLiteModel(tmp_path / "model.tflite").run(samples)
    np.testing.assert_array_equal(both, samples[0] & samples[1])
    np.testing.assert_array_equal(either, samples[0] | samples[1])


@pytest.mark.parametrize("target", ["tflite", "keras"])
def test_floats_seen_as_integers_and_back(tmp_path, target):
    def magnitude(x):
        return (x.view(torch.int32) & 0x7FFFFFFF).view(torch.float32) if target == "keras" else x.view(torch.int32)

    samples = {"typical": [np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)]}
    hub = program_hub(tmp_path / "hub", magnitude, samples)
    assert export_to(hub, target, tmp_path).verification.passed


def test_the_error_function_is_as_exact_as_float32(tmp_path):
    """Where it rises, where it ends, and with a free size, of which litert-torch makes nothing."""
    x = np.concatenate([np.linspace(-6, 6, 2001), [0.0, -0.0, 1e-20, 3.9999, 4.0, 4.0001, 100, -100]]).astype(
        np.float32
    )
    hub = program_hub(tmp_path / "hub", torch.erf, {"typical": [np.stack([x, -x])]}, shared_batch=True)
    result = export_to(hub, "tflite", tmp_path)
    assert result.verification.passed and "litert-torch" not in result.route
    found = TFLiteModel(tmp_path / "model.tflite").run([np.stack([x, -x])])[0]
    expected = torch.erf(torch.from_numpy(x.astype(np.float64))).numpy()
    assert np.abs(found[0] - expected).max() < 1e-6
