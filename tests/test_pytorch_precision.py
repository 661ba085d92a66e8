"""Models of half precision, bfloat16, float64 and mixtures: files of float32 arithmetic that are verified, and say so."""

import copy

import numpy as np
import pytest
import torch
from pytorch_hub import import_file
from pytorch_networks import vary
from special_hubs import export_to
from torch import nn

TARGETS = ["onnx", "tflite", "keras"]


class Pixels(nn.Module):
    shape = "1,3,12,12"

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6 * 5 * 5, 4)

    def forward(self, image):
        return self.fc(nn.functional.max_pool2d(self.norm(self.conv(image)).relu(), 2).flatten(1))


class Block(nn.Module):
    shape = "1,6,8"

    def __init__(self):
        super().__init__()
        self.body = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, sequence):
        return self.body(sequence)


class Recurrent(nn.Module):
    shape = "1,6,5"

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.LSTM(5, 7, batch_first=True), nn.Linear(7, 3)

    def forward(self, sequence):
        return self.fc(self.rnn(sequence)[0][:, -1])


class Tokens(nn.Module):
    """Masks with the lowest number of its own dtype."""

    shape = "int64:1,7"

    def __init__(self):
        super().__init__()
        self.table, self.fc = nn.Embedding(20, 8), nn.Linear(8, 4)

    def forward(self, tokens):
        dtype = self.table.weight.dtype
        mask = torch.zeros(tokens.shape, dtype=dtype).masked_fill(tokens == 0, torch.finfo(dtype).min)
        return self.fc((self.table(tokens) * torch.softmax(mask, -1)[..., None]).sum(1))


class Mixed(nn.Module):
    """A body of half precision between a norm and a head of float32, with casts of every kind."""

    shape = "1,6,8"

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 9).half(), nn.LayerNorm(9), nn.Linear(9, 4).bfloat16()

    def forward(self, x):
        y = self.first(x.half()) + torch.ones(9, dtype=torch.float16)
        y = self.norm(y.to(torch.float32)).to(self.last.weight.dtype)
        return self.last(y.bfloat16()).float()


class Automatic(nn.Module):
    shape = "1,8"

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 9), nn.Linear(9, 4)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.first(x).relu()
        return self.last(y.float())


class Stored(nn.Module):
    """Weights that are kept in half precision and widened before they are used."""

    shape = "1,6"

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.randn(6, 3).half())

    def forward(self, x):
        return x @ self.weight.float()


class Delicate(nn.Module):
    """What float32 cannot compute."""

    shape = "float64:1,4"

    def __init__(self):
        super().__init__()
        self.register_buffer("large", torch.tensor(1e9, dtype=torch.float64))

    def forward(self, x):
        return (x.double() + self.large) - self.large


def build(name, dtype=None):
    torch.manual_seed(0)
    network = vary(globals()[name]()).eval()
    return network if dtype is None else network.to(dtype)


def hub_of(folder, content, shape, **parameters):
    (folder / "net.py").write_text("from test_pytorch_precision import *\n")
    torch.save(content, folder / "net.pt")
    return import_file(folder / "net.pt", folder / "hub", shape, network_script=folder / "net.py", **parameters)


def assert_is_float32(hub, network, dtype):
    """The reference is what the widened weights give in float32; the report tells."""
    assert {spec.dtype for spec in [*hub.inputs, *hub.outputs]} <= {"float32", "int64"}
    assert "computes_in" not in hub.extra
    for run in hub.reference():
        with torch.no_grad():
            expected = network(*map(torch.from_numpy, run.inputs)).numpy()
        assert run.outputs[0].dtype == np.float32
        np.testing.assert_allclose(run.outputs[0], expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))
    assert any(decision == f"{dtype} arithmetic as float32" for decision in hub.decisions)
    (note,) = [note for note in hub.notes if f"computes in {dtype}" in note]
    assert "float32 arithmetic of the same weights" in note


def assert_exports(hub, folder):
    for target in TARGETS:
        verification = export_to(hub, target, folder).verification
        assert verification.passed, (target, verification.message)


@pytest.mark.parametrize("name", ["Pixels", "Block", "Recurrent", "Tokens"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_module_is_verified_in_float32(tmp_path, name, dtype):
    network = build(name, dtype)
    hub = hub_of(tmp_path, network, network.shape)
    assert_is_float32(hub, copy.deepcopy(network).float(), str(dtype).removeprefix("torch."))
    assert_exports(hub, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_in_a_module_of_float32(tmp_path, dtype):
    """No arithmetic is another than the module's own, so that there is nothing to tell."""
    network = build("Pixels", dtype)
    hub = hub_of(tmp_path, network.state_dict(), network.shape, network_name="Pixels")
    assert hub.decisions == [] and hub.inputs[0].dtype == "float32"
    assert_exports(hub, tmp_path)


def test_mixture_of_dtypes(tmp_path):
    hub = hub_of(tmp_path, build("Mixed"), Mixed.shape)
    network = build("Mixed")

    def expected(x):
        parts = [copy.deepcopy(part).float() for part in (network.first, network.norm, network.last)]
        return parts[2](parts[1](parts[0](x) + 1))

    assert_is_float32(hub, expected, "bfloat16 and float16")
    assert_exports(hub, tmp_path)


def test_autocast_of_the_model_itself(tmp_path):
    hub = hub_of(tmp_path, build("Automatic"), Automatic.shape)
    network = build("Automatic")
    assert_is_float32(hub, lambda x: network.last(network.first(x).relu()), "bfloat16")
    assert_exports(hub, tmp_path)


def test_program_with_autocast(tmp_path):
    """Operators of the program run the part under autocast as a graph of its own."""
    network = build("Automatic")
    program = torch.export.export(network, (torch.randn(2, 8),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    hub = import_file(tmp_path / "net.pt2", tmp_path / "hub", network_script=None)
    assert_is_float32(hub, lambda x: network.last(network.first(x).relu()), "bfloat16")
    assert hub.inputs[0].shape[0] is None
    assert_exports(hub, tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_of_an_input_that_the_user_gave(tmp_path, dtype):
    network = build("Pixels", getattr(torch, dtype))
    hub = hub_of(tmp_path, network, f"{dtype}:{Pixels.shape}")
    assert_is_float32(hub, copy.deepcopy(network).float(), dtype)


def test_example_inputs_of_half_precision(tmp_path):
    network = build("Pixels", torch.float16)
    torch.save(network, tmp_path / "net.pt")
    (tmp_path / "net.py").write_text(
        "from test_pytorch_precision import *\n"
        "example_inputs = (torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)).half(),)\n"
    )
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", network_script=tmp_path / "net.py")
    assert_is_float32(hub, copy.deepcopy(network).float(), "float16")


@pytest.mark.parametrize("name", ["Pixels", "Block", "Recurrent"])
@pytest.mark.parametrize("form", ["program", "torchscript"])
def test_program_and_torchscript_of_half_precision(tmp_path, name, form):
    network = build(name, torch.float16)
    example = torch.randn(2, *map(int, network.shape.split(",")[1:])).half()
    if form == "program":
        path, shape = tmp_path / "net.pt2", None
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)), path)
    else:
        path, shape = tmp_path / "net.pt", network.shape
        torch.jit.trace(network, (example,), check_trace=False).save(path)
    hub = import_file(path, tmp_path / "hub", shape, network_script=None)
    assert_is_float32(hub, copy.deepcopy(network).float(), "float16")
    assert form == "torchscript" or hub.inputs[0].shape[0] is None  # a trace may hold the example's batch
    assert_exports(hub, tmp_path)


def test_weights_that_are_only_kept_in_half_precision_stay_so(tmp_path):
    hub = hub_of(tmp_path, build("Stored"), Stored.shape)
    assert hub.decisions == []
    program = torch.export.load(hub.path / "program.pt2")
    assert {value.dtype for value in program.state_dict.values()} == {torch.float16}


def test_float64_that_float32_cannot_stand_for_stays(tmp_path):
    hub = hub_of(tmp_path, build("Delicate"), Delicate.shape)
    assert hub.inputs[0].dtype == hub.outputs[0].dtype == "float64"
    assert not any("float32" in decision for decision in hub.decisions)


def test_state_of_a_half_model_is_still_noticed(tmp_path):
    """The widened copy's first call is looked at like any model's."""
    from converter.errors import UnsupportedError

    with pytest.raises(UnsupportedError, match="first call of Warm gives another result"):
        hub_of(tmp_path, Warm().half().eval(), "1,5")


class Warm(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.mean = nn.Linear(5, 4), None

    def forward(self, x):
        if self.mean is None:
            self.mean = x.mean().detach().clone()
        return self.fc(x - self.mean)
