"""Inputs and tracing of PyTorch models: names, dtypes, dynamic dimensions, control flow, and what cannot be traced."""

import numpy as np
import pytest
import torch
from pytorch_hub import import_file, network, saved

from converter.errors import ParameterError, UnsupportedError


def shapes(specs):
    return [(spec.name, spec.shape, spec.dtype) for spec in specs]


def test_token_inputs_are_found_to_be_integers_within_the_vocabulary(tmp_path):
    hub = import_file(saved(tmp_path, "Tokens", vocabulary=4), tmp_path / "hub", "1,7")
    assert shapes(hub.inputs) == [("tokens", (None, 7), "int64")]
    values = np.concatenate([run.inputs[0].reshape(-1) for run in hub.reference()])
    assert values.min() >= 0
    assert 1 < len(set(values)) <= 4


def test_dtype_given_by_the_user(tmp_path):
    hub = import_file(saved(tmp_path, "Tokens"), tmp_path / "hub", "int32:1,7")
    assert shapes(hub.inputs) == [("tokens", (None, 7), "int32")]


def test_two_inputs_and_a_dict_of_outputs(tmp_path):
    hub = import_file(saved(tmp_path, "TwoInputs"), tmp_path / "hub", "1,4;1,6")
    assert shapes(hub.inputs) == [("left", (None, 4), "float32"), ("right", (None, 6), "float32")]
    assert shapes(hub.outputs) == [("sum", (None, 3), "float32"), ("scaled", (None, 3), "float32")]


CONTAINERS = """
import dataclasses
from collections import OrderedDict
import torch

class Output(OrderedDict):
    pass

@dataclasses.dataclass
class Fields:
    first: torch.Tensor
    rest: Output
    missing: object = None

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(4, 3)
    def forward(self, x):
        y = self.dense(x)
        return Fields(y, Output(loss=None, hidden=y.tanh(), parts=(y * 2, None)))
"""


def test_containers_that_torch_does_not_know_are_looked_into(tmp_path):
    """Subclasses of mappings, dataclasses, and what is nested in them; None is no output."""
    script = tmp_path / "net.py"
    script.write_text(CONTAINERS)
    scope = {}
    exec(CONTAINERS, scope)
    torch.manual_seed(0)
    net = scope["Net"]()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", "1,4", network_script=script, network_name="Net")
    assert [spec.name for spec in hub.outputs] == ["first", "rest_hidden", "rest_parts_0"]
    run = hub.reference()[0]
    expected = net.dense(torch.from_numpy(run.inputs[0])).detach()
    for output, wanted in zip(run.outputs, (expected, expected.tanh(), expected * 2), strict=True):
        np.testing.assert_allclose(output, wanted.numpy(), rtol=1e-5, atol=1e-6)


def test_constants_fill_arguments_that_are_no_tensors(tmp_path):
    hub = import_file(saved(tmp_path, "TwoInputs"), tmp_path / "hub", "1,4;1,6", constants={"scale": 5.0})
    left, right = (torch.from_numpy(array) for array in hub.reference()[1].inputs)
    expected = network("TwoInputs")(left, right, 5.0)["scaled"].detach().numpy()
    np.testing.assert_allclose(hub.reference()[1].outputs[1], expected, rtol=1e-5)
    with pytest.raises(ParameterError, match="no argument 'factor'; it has left, right, scale"):
        import_file(saved(tmp_path, "TwoInputs"), tmp_path / "hub2", "1,4;1,6", constants={"factor": 5.0})


def test_example_inputs_of_the_script(tmp_path):
    """Nested, by name, with a scalar among them."""
    (tmp_path / "script.py").write_text(
        "import torch\n\n\nclass Cell(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.cell = torch.nn.LSTMCell(4, 3)\n\n"
        "    def forward(self, x, state, factor=1.0):\n"
        "        h, c = self.cell(x, state)\n        return h * factor, (h, c)\n\n\n"
        "def example_inputs():\n"
        "    return {'x': torch.zeros(1, 4), 'state': (torch.zeros(1, 3), torch.zeros(1, 3)), 'factor': 2.0}\n"
    )
    script: dict = {}
    exec((tmp_path / "script.py").read_text(), script)
    torch.manual_seed(0)
    torch.save(script["Cell"]().state_dict(), tmp_path / "cell.pt")
    hub = import_file(tmp_path / "cell.pt", tmp_path / "hub", network_script=tmp_path / "script.py")
    assert shapes(hub.inputs) == [
        ("x", (None, 4), "float32"),
        ("state_0", (None, 3), "float32"),
        ("state_1", (None, 3), "float32"),
    ]
    assert [spec.name for spec in hub.outputs] == ["output_0", "output_1_0", "output_1_1"]
    run = hub.reference()[1]
    np.testing.assert_allclose(run.outputs[0], 2.0 * run.outputs[1], rtol=1e-6)


def test_unknown_height_and_width(tmp_path):
    hub = import_file(saved(tmp_path, "UNet"), tmp_path / "hub", "1,3,-1,-1")
    assert shapes(hub.inputs) == [("x", (None, 3, None, None), "float32")]
    assert shapes(hub.outputs) == [("output", (None, 2, None, None), "float32")]
    sizes = {run.inputs[0].shape[2:] for run in hub.reference() if run.kind == "typical"}
    assert len(sizes) == 2


def test_batch_that_cannot_vary_is_fixed_and_said(tmp_path):
    hub = import_file(saved(tmp_path, "FixedBatch"), tmp_path / "hub", "1,4,2")
    assert not hub.batch_dynamic
    assert hub.inputs[0].shape == (1, 4, 2)
    assert "the batch is fixed at 1" in hub.notes[0]
    with pytest.raises(ParameterError, match="does not run on inputs"):
        import_file(saved(tmp_path, "FixedBatch"), tmp_path / "hub2", "-1,4,2")


def test_code_that_branches_on_the_batch_is_not_believed(tmp_path):
    """torch.export traces one side without a word; the reference at batch 1 shows it."""
    hub = import_file(saved(tmp_path, "SizeBranch"), tmp_path / "hub", "1,4")
    assert not hub.batch_dynamic
    run = hub.reference()[0]
    np.testing.assert_array_equal(run.outputs[0], 2 * run.inputs[0])


def test_control_flow_is_kept_as_torchscript(tmp_path):
    hub = import_file(saved(tmp_path, "Branches"), tmp_path / "hub", "1,4")
    assert hub.extra["form"] == "torchscript"
    script = torch.jit.load(hub.path / "module.pt")
    module = network("Branches")
    for sign in (1.0, -1.0):
        x = torch.full((2, 4), sign)
        torch.testing.assert_close(script(x), module(x))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Unscriptable",
            r"control flow depends on the data in forward \(pytorch_networks.py, line \d+: .*x.sum\(\) > 0",
        ),
        ("Noisy", "different outputs for the same input"),
        ("Counting", "keeps state from call to call"),
    ],
)
def test_what_cannot_be_traced_is_one_sentence(tmp_path, name, message):
    with pytest.raises(UnsupportedError, match=message):
        import_file(saved(tmp_path, name), tmp_path / "hub", "1,4")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (None, r"input_shape is needed: .*forward\(image\)"),
        ("1,3,16,16;1,3", r"input_shape gives 2 inputs, but forward of Net takes \(image\)"),
        ("1,3,20,16", r"does not take inputs of shape 1,3,20,16 \(image\): mat1 and mat2"),
        ("1,1,16,16", "does not take inputs of shape 1,1,16,16"),
    ],
)
def test_wrong_input_shape(tmp_path, shape, message):
    with pytest.raises(ParameterError, match=message):
        import_file(saved(tmp_path, "Net"), tmp_path / "hub", shape)


def test_torchscript_argument_that_is_no_tensor(tmp_path):
    class Scaled(torch.nn.Module):
        def forward(self, x, factor: int):
            return x * factor

    torch.jit.save(torch.jit.script(Scaled()), tmp_path / "scaled.pt")
    with pytest.raises(ParameterError, match=r"'factor' .* is of type int.*constants: \{\"factor\""):
        import_file(tmp_path / "scaled.pt", tmp_path / "hub", "1,4", network_script=None)
    hub = import_file(tmp_path / "scaled.pt", tmp_path / "hub", "1,4", network_script=None, constants={"factor": 3})
    np.testing.assert_allclose(hub.reference()[0].outputs[0], 3 * hub.reference()[0].inputs[0])


@pytest.mark.parametrize(
    ("name", "shape"), [("Tokens", "1,7"), ("UNet", "1,3,-1,-1"), ("Pieces", "1,3,9,9"), ("Encoder", "1,7,16")]
)
def test_scripted_modules_become_programs(tmp_path, name, shape):
    """So that they reach every target; sizes stay unknown, parameters keep their names."""
    torch.jit.save(torch.jit.script(network(name)), tmp_path / "scripted.pt")
    hub = import_file(tmp_path / "scripted.pt", tmp_path / "hub", shape, network_script=None)
    assert hub.extra["form"] == "exported"
    assert hub.batch_dynamic
    program = torch.export.load(str(hub.path / "program.pt2"))
    assert set(dict(network(name).named_parameters())) <= set(program.state_dict)


def test_program_says_its_own_inputs(tmp_path):
    module = network("TwoInputs")
    program = torch.export.export(module, (torch.zeros(2, 4),), {"right": torch.zeros(2, 6)})
    torch.export.save(program, tmp_path / "two.pt2")
    hub = import_file(tmp_path / "two.pt2", tmp_path / "hub", network_script=None)
    assert shapes(hub.inputs) == [("left", (2, 4), "float32"), ("right", (2, 6), "float32")]
    with pytest.raises(ParameterError, match=r"was exported for left \[2, 4\]; right \[2, 6\]"):
        import_file(tmp_path / "two.pt2", tmp_path / "hub2", "2,5;2,6", network_script=None)


def test_user_reference_inputs(tmp_path):
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", x=rows)
    hub = import_file(saved(tmp_path, "Branches"), tmp_path / "hub", "1,4", reference_inputs=tmp_path / "inputs.npz")
    used = np.concatenate([run.inputs[0] for run in hub.reference()])
    np.testing.assert_array_equal(used, rows)
