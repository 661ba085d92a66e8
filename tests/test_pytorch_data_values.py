"""PyTorch models whose sizes, numbers or branches come from the values of an input: never the example's, in no file."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import pytorch_odd_networks
import torch
from export_keras import export_model as export_keras
from pytorch_hub import import_file
from pytorch_networks import vary

from converter.contracts import ExportJob
from converter.errors import UnsupportedError
from converter.hub.hub import Hub, Run
from converter.publishing.report import compose
from converter.torch.onnx.export import export
from converter.torch.sources.variations import moved, other_batches, unvaried
from converter.torch.sources.variations import vary as other_samples
from converter.torch.tflite.export import export as export_tflite
from converter.verification.runtimes import KerasModel

ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(3))


def network(name):
    torch.manual_seed(0)
    return vary(getattr(pytorch_odd_networks, name)()).eval()


def imported(folder, name, example=None, shape=None, **parameters):
    """`example`: what example_inputs() of the script returns, as Python."""
    text = Path(pytorch_odd_networks.__file__).read_text()
    if example is not None:
        text += f"\n\ndef example_inputs():\n    rows = torch.linspace(-1, 1, 30).reshape(6, 5)\n    return {example}\n"
    (folder / "net.py").write_text(text)
    torch.save(network(name).state_dict(), folder / "net.pt")
    script = folder / "net.py"
    return import_file(folder / "net.pt", folder / "hub", shape, network_script=script, network_name=name, **parameters)


def onnx_outputs(folder, hub, *inputs):
    """Outputs of the ONNX file, which the export itself must have accepted."""
    result = export(hub, ExportJob("net.onnx"), folder / "net.onnx")
    assert result.verification.passed, result.verification.message
    session = onnxruntime.InferenceSession(folder / "net.onnx")
    arrays = dict(zip([spec.name for spec in hub.inputs], inputs, strict=True))
    return session.run(None, {value.name: arrays[value.name].numpy() for value in session.get_inputs()})[0]


@pytest.mark.parametrize(
    ("name", "example", "shape", "inputs"),
    [
        ("Split", "rows, torch.tensor([2, 3, 1])", None, (ROWS, torch.tensor([1, 1, 4]))),
        ("Split", "rows, torch.tensor([2, 2, 2])", None, (ROWS, torch.tensor([4, 0, 2]))),
        ("Segments", "rows, torch.tensor([0, 2, 5, 6])", None, (ROWS, torch.tensor([0, 1, 3, 6]))),
        ("Bounded", None, "1,5", (torch.rand(6, 5, generator=torch.Generator().manual_seed(2)),)),
        ("Scaled", None, "1,5", (3 * ROWS,)),
        ("Either", None, "1,5", (ROWS - 3,)),
        ("Either", None, "1,5", (ROWS + 3,)),
        ("Repeated", "rows, torch.tensor(2)", None, (ROWS, torch.tensor(5))),
    ],
)
def test_onnx_computes_with_values_that_were_never_seen(tmp_path, name, example, shape, inputs):
    hub = imported(tmp_path, name, example, shape)
    with torch.no_grad():
        expected = network(name)(*inputs).numpy()
    np.testing.assert_allclose(onnx_outputs(tmp_path, hub, *inputs), expected, rtol=1e-4, atol=1e-5)
    assert hub.unproven is None


def test_example_is_never_the_only_evidence(tmp_path):
    hub = imported(tmp_path, "Split", "rows, torch.tensor([2, 3, 1])")
    lengths = {tuple(run.inputs[1]) for run in hub.reference()}
    assert len(lengths) > 1
    assert all(sum(each) == 6 for each in lengths)
    assert hub.evidence["samples_from"] == "example_inputs"


def test_random_numbers_that_the_model_is_not_made_for_give_way_to_the_example(tmp_path):
    """Random offsets leave pieces without rows, whose mean is NaN."""
    hub = imported(tmp_path, "Segments", "rows, torch.tensor([0, 2, 5, 6])")
    assert all(np.isfinite(run.outputs[0]).all() for run in hub.reference())
    assert len({tuple(run.inputs[1]) for run in hub.reference()}) > 1


def test_lower_opset_names_what_reads_the_values(tmp_path):
    hub = imported(tmp_path, "Split", "rows, torch.tensor([2, 3, 1])")
    with pytest.raises(
        UnsupportedError, match=r"values of its inputs decide sizes .*item in forward \(net.py, line \d+"
    ):
        export(hub, ExportJob("net.onnx", onnx_opset=13), tmp_path / "net.onnx")
    assert export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx").opset == 18


def test_packed_rows_of_other_lengths_and_sizes(tmp_path):
    """torch.export cannot follow, and the script asks for types: the trace is exact."""
    example = "torch.rand(3, 7, 5) - 0.5, torch.tensor([7, 3, 5])"
    hub = imported(tmp_path, "Packed", example)
    assert len({tuple(run.inputs[1]) for run in hub.reference()}) > 2
    for lengths in ([1, 6], [7], [2, 7, 7, 4, 1]):
        inputs = torch.randn(len(lengths), 7, 5), torch.tensor(lengths)
        with torch.no_grad():
            expected = network("Packed")(*inputs).numpy()
        np.testing.assert_allclose(onnx_outputs(tmp_path, hub, *inputs), expected, rtol=1e-4, atol=1e-5)
    # By way of that ONNX file, whose recurrent operators take lengths.
    result = export_keras(hub, ExportJob("net.keras"), tmp_path / "net.keras")
    assert result.verification.passed and result.route[:2] == ["export_onnx", "onnx_to_torch"]
    found = KerasModel(tmp_path / "net.keras").run([array.numpy() for array in inputs])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_packed_rows_whose_lengths_are_numbers_are_refused_or_right(tmp_path):
    try:
        hub = imported(tmp_path, "PackedByNumbers", "torch.rand(3, 7, 5) - 0.5, torch.tensor([7, 3, 5])")
        inputs = torch.randn(3, 7, 5), torch.tensor([1, 6, 2])
        outputs = onnx_outputs(tmp_path, hub, *inputs)
    except UnsupportedError as error:
        assert "cannot" in str(error)
        return
    with torch.no_grad():
        np.testing.assert_allclose(outputs, network("PackedByNumbers")(*inputs).numpy(), rtol=1e-4, atol=1e-5)


def test_layers_hold_no_values_of_inputs(tmp_path):
    hub = imported(tmp_path, "Scaled", None, "1,5")
    with pytest.raises(UnsupportedError, match=r"values of its inputs become .*ask for .onnx"):
        export_keras(hub, ExportJob("net.keras"), tmp_path / "net.keras")
    with pytest.raises(UnsupportedError, match=r"values of its inputs become .*ask for an .onnx"):
        export_tflite(hub, ExportJob("net.tflite"), tmp_path / "net.tflite")


def test_layers_choose_by_values_of_inputs(tmp_path):
    hub = imported(tmp_path, "Either", None, "1,5")
    for suffix, write in (("keras", export_keras), ("tflite", export_tflite)):
        result = write(hub, ExportJob(f"net.{suffix}"), tmp_path / f"net.{suffix}")
        assert result.verification.passed, result.verification.message


def test_trace_with_values_of_its_example_is_refused(tmp_path):
    """A loop over numbers that NumPy has: neither torch.export nor TorchScript can follow, and tracing does not warn."""
    with pytest.raises(UnsupportedError, match="values of the example would be fixed in it"):
        imported(tmp_path, "Hidden", "rows, torch.tensor([2, 6, 1])")


def test_what_takes_no_other_values_is_unverified_until_samples_are_given(tmp_path):
    hub = imported(tmp_path, "Particular", "rows, torch.tensor([3, 3, 3, 3, 3, 3])")
    assert "no other values of input codes than those in example_inputs" in hub.unproven
    assert "write verify.inputs" in hub.unproven
    result = export(hub, ExportJob("net.onnx"), tmp_path / "net.onnx")
    report = compose("net.onnx", hub, {}, "export_onnx", result, None, tmp_path / "net.onnx", [], {})
    assert (report["status"], report["reason"]) == ("unverified", hub.unproven)

    rows = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=rows, codes=np.array([3, 10, 17, 3]))
    again = imported(tmp_path, "Particular", "rows, torch.tensor([3] * 6)", reference_inputs=tmp_path / "in.npz")
    assert again.unproven is None
    # The same values throughout prove no more than the example.
    np.savez(tmp_path / "in.npz", x=rows, codes=np.array([10, 10, 10, 10]))
    again = imported(tmp_path, "Particular", "rows, torch.tensor([3] * 6)", reference_inputs=tmp_path / "in.npz")
    assert "those in verify.inputs" in again.unproven


def test_number_that_is_the_only_one_of_its_table_needs_no_other(tmp_path):
    """Token types of RoBERTa: a table of one row."""
    (tmp_path / "net.py").write_text(
        "import torch\n\n\nclass Types(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.words, self.types = torch.nn.Embedding(9, 4), torch.nn.Embedding(1, 4)\n\n"
        "    def forward(self, words, types):\n        return self.words(words) + self.types(types)\n"
    )
    script: dict = {}
    exec((tmp_path / "net.py").read_text(), script)
    torch.save(script["Types"]().state_dict(), tmp_path / "net.pt")
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", "int64:1,7;int64:1,7", network_script=tmp_path / "net.py")
    assert hub.unproven is None


def test_example_with_a_batch_is_run_at_another(tmp_path):
    hub = imported(tmp_path, "Particular", "rows, torch.tensor([3, 3, 10, 3, 3, 3])")
    assert hub.batch_dynamic
    assert {len(run.inputs[0]) for run in hub.reference()} == {1, 6}
    assert hub.outputs[0].shape == (None, 4)


class TestVariations:
    """Other samples from one: what is kept of it."""

    @staticmethod
    def accepted(example, takes):
        def call(arrays):
            assert takes(*arrays)
            return [arrays[0]]

        return [run.inputs for run in other_samples(example, call)]

    def test_sum_is_kept_where_the_source_insists(self):
        found = self.accepted([np.array([2, 2, 2])], lambda x: x.sum() == 6)
        assert found
        assert all(array.sum() == 6 and array.min() >= 1 and (array != 2).any() for (array,) in found)

    def test_offsets_stay_in_order(self):
        found = self.accepted([np.array([0, 3, 5, 9])], lambda x: (np.diff(x) >= 0).all() and x[0] == 0 and x[-1] == 9)
        assert len(found) == 2

    def test_offsets_that_differ_stay_different(self):
        for (array,) in self.accepted([np.array([0, 3, 5, 9])], lambda x: True):
            assert len(set(array)) == 4

    def test_no_values_out_of_range_before_all_within_are_refused(self):
        for (array,) in self.accepted([np.array([[5, 1, 3]])], lambda x: True):
            assert array.min() >= 1
            assert array.max() <= 5

    def test_floats_and_flags_vary_too(self):
        example = [np.zeros((2, 3), np.float32), np.array([True, True, True])]
        found = self.accepted(example, lambda x, flags: True)
        assert not unvaried([Run(example, []), *(Run(arrays, []) for arrays in found)])

    def test_what_no_value_can_replace_is_named(self):
        example = [np.zeros((2, 3), np.float32), np.array(4)]
        found = self.accepted(example, lambda x, count: count == 4)
        assert unvaried([Run(example, []), *(Run(arrays, []) for arrays in found)]) == [1]

    def test_other_sizes_are_no_other_values(self):
        example = [np.zeros((3, 2), np.int64)]
        assert unvaried([Run(arrays, []) for arrays in [example, *other_batches(example)]]) == [0]

    def test_seed_decides(self):
        example = [np.arange(5.0), np.arange(5)[::-1]]
        for first, second in zip(moved(example, 1), moved(example, 1), strict=True):
            np.testing.assert_array_equal(first, second)
        assert (moved(example, 1)[0] != moved(example, 2)[0]).any()


def test_unproven_survives_the_hub_file(tmp_path):
    imported(tmp_path, "Particular", "rows, torch.tensor([3, 3, 3, 3, 3, 3])")
    assert "verify.inputs" in Hub.read(tmp_path / "hub").unproven
