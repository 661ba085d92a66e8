"""What forward may take and give: inputs by name, items of lists, *args and **kwargs, containers of others, a fixed batch."""

import dataclasses

import numpy as np
import pytest
import torch
from pytorch_hub import import_file
from torch import nn
from torch.utils import _pytree as pytree

from converter.contracts import ExportJob
from converter.errors import ParameterError
from converter.torch.onnx.export import export as export_onnx
from converter.torch.program.run_hub import runner

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(6, 5)
"""

FORWARDS = {
    "middle left out": """
    def forward(self, x, mask=None, scale=None, *, bias=None):
        y = self.dense(x)
        y = y if mask is None else y * mask
        y = y if scale is None else y * scale
        return y if bias is None else y + bias
""",
    "variadic": """
    def forward(self, x, *args, **kwargs):
        for other in args:
            x = x + other.tanh()
        for name in sorted(kwargs):
            x = x * kwargs[name].sigmoid()
        return self.dense(x)
""",
    "a list": """
    def forward(self, images, sizes=None):
        assert isinstance(images, list)
        return [self.dense(image).relu() for image in images], self.dense(images[1] - images[0])
""",
    "a tuple by its annotation": """
    def forward(self, x, states: tuple[torch.Tensor, torch.Tensor]):
        assert isinstance(states, tuple)
        return self.dense(x) + states[0] * 2, states[1] - 1
""",
    "a mapping": """
    def forward(self, batch):
        return {"out": self.dense(batch["left"]) - self.dense(batch["right"])}
""",
    "a tensor by default": """
    def forward(self, x, factor=torch.tensor(3.0)):
        return self.dense(x) * factor
""",
}


def net(tmp_path, kind):
    text = SOURCE + FORWARDS[kind]
    script = tmp_path / "net.py"
    script.write_text(text)
    scope: dict = {}
    exec(compile(text, str(script), "exec"), scope)
    torch.manual_seed(1)
    module = scope["Net"]().eval()
    torch.save(module.state_dict(), tmp_path / "net.pt")
    return module, script


def imported(tmp_path, kind, shape, **parameters):
    module, script = net(tmp_path, kind)
    hub = import_file(
        tmp_path / "net.pt", tmp_path / "hub", shape, network_script=script, network_name="Net", **parameters
    )
    return module, hub


def names(hub):
    return [spec.name for spec in hub.inputs]


def exported(hub, tmp_path):
    result = export_onnx(hub, ExportJob("converted/net.onnx"), tmp_path / "net.onnx")
    assert result.verification.passed
    return result


@pytest.mark.parametrize(
    ("kind", "shape", "expected", "call"),
    [
        ("middle left out", "x=1,6;scale=1,5", ["x", "scale"], lambda m, a: m(a[0], scale=a[1])),
        ("middle left out", "bias=1,5;x=1,6", ["bias", "x"], lambda m, a: m(a[1], bias=a[0])),
        ("variadic", "x=1,6;gate=1,6;more=1,6", ["x", "gate", "more"], lambda m, a: m(a[0], gate=a[1], more=a[2])),
        ("variadic", "1,6;1,6;1,6", ["x", "args_0", "args_1"], lambda m, a: m(*a)),
        ("a list", "images.0=4,6;images.1=4,6", ["images_0", "images_1"], lambda m, a: m(list(a))),
        (
            "a tuple by its annotation",
            "x=1,6;states.0=1,5;states.1=1,3",
            ["x", "states_0", "states_1"],
            lambda m, a: m(a[0], (a[1], a[2])),
        ),
        (
            "a mapping",
            "batch.left=1,6;batch.right=1,6",
            ["batch_left", "batch_right"],
            lambda m, a: m({"left": a[0], "right": a[1]}),
        ),
        ("a tensor by default", "1,6", ["x"], lambda m, a: m(*a)),
    ],
)
def test_inputs_reach_their_places(tmp_path, kind, shape, expected, call):
    """The file computes what the call does that a user would write, with values of ours."""
    module, hub = imported(tmp_path, kind, shape)
    assert names(hub) == expected
    rng = np.random.default_rng(3)
    arrays = [
        rng.standard_normal([4 if dim is None else dim for dim in spec.shape]).astype(spec.dtype) for spec in hub.inputs
    ]
    with torch.no_grad():
        wanted = pytree.tree_leaves(call(module, [torch.from_numpy(a) for a in arrays]))
    got = runner(hub)(arrays)
    assert len(wanted) == len(got)
    for a, b in zip(wanted, got, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
    exported(hub, tmp_path)


@pytest.mark.parametrize(
    ("kind", "shape", "words"),
    [
        ("middle left out", "scale=1,5", "needs x too"),
        ("middle left out", "x=1,6;skale=1,5", "no argument 'skale'; it has scale"),
        ("a list", "images.0=4,6;images.2=4,6", "number them from 0 on"),
        ("a list", "images=4,6;images.0=4,6", "both a tensor and a container"),
    ],
)
def test_names_that_do_not_fit(tmp_path, kind, shape, words):
    with pytest.raises(ParameterError, match=words):
        imported(tmp_path, kind, shape)


class Registered(dict):
    """A container that is registered with torch in this process only, as those of model libraries are."""


pytree.register_pytree_node(
    Registered,
    lambda value: (list(value.values()), list(value)),
    lambda values, keys: Registered(zip(keys, values, strict=True)),
    serialized_type_name="tests.Registered",
    flatten_with_keys_fn=lambda value: ([(pytree.MappingKey(k), v) for k, v in value.items()], list(value)),
)


@dataclasses.dataclass
class Fields:
    logits: torch.Tensor
    hidden: Registered
    missing: object = None


class Returns(nn.Module):
    """Gives containers of its own library."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(3, 2)

    def forward(self, x):
        y = self.dense(x)
        return Registered(logits=y, last=y.tanh())


def test_no_container_of_a_library_stands_in_the_hub(tmp_path):
    """The program is read again by processes that know nothing of the model's library."""
    script = tmp_path / "net.py"
    script.write_text("from test_pytorch_signatures import Returns as Net\n")
    torch.manual_seed(0)
    torch.save(Returns().state_dict(), tmp_path / "net.pt")
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", "1,3", network_script=script, network_name="Net")
    assert [spec.name for spec in hub.outputs] == ["logits", "last"]
    program = torch.export.load(tmp_path / "hub" / "program.pt2")
    assert "Registered" not in str(program.call_spec.out_spec)


@pytest.mark.parametrize(("batch", "shape"), [(None, (None, 6)), (4, (4, 6)), (0, (None, 6))])
def test_a_batch_that_the_user_fixes(tmp_path, batch, shape):
    _, hub = imported(tmp_path, "a tensor by default", "1,6", batch=batch)
    assert hub.inputs[0].shape == shape
    assert all(run.inputs[0].shape[0] == 4 for run in hub.reference()) == (batch == 4)
    result = exported(hub, tmp_path)
    assert result.inputs[0].shape == shape and result.outputs[0].shape == (shape[0], 5)


def test_a_batch_where_inputs_share_none(tmp_path):
    with pytest.raises(ParameterError, match="batch is 2, but input images_0 has the shape"):
        imported(tmp_path, "a list", "images.0=4,6;images.1=4,6", batch=2)


def program(tmp_path, fixed):
    torch.manual_seed(0)
    dims = None if fixed else ({0: torch.export.Dim("n")},)
    exported = torch.export.export(
        nn.Sequential(nn.Linear(6, 4), nn.ReLU()).eval(), (torch.randn(3, 6),), dynamic_shapes=dims
    )
    torch.export.save(exported, tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def test_the_batch_of_a_program_is_fixed_in_it(tmp_path):
    hub = import_file(program(tmp_path, False), tmp_path / "hub", network_script=None, batch=2)
    assert hub.inputs[0].shape == (2, 6) and hub.outputs[0].shape == (2, 4)
    exported(hub, tmp_path)


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(3, 4)

    def forward(self, image, mask):
        return self.left(image) - self.right(mask)


def test_names_of_a_programs_inputs(tmp_path):
    """Whatever the order in which the user writes them; a name that is none is said."""
    dims = ({0: torch.export.Dim.AUTO},) * 2
    exported_program = torch.export.export(Heads().eval(), (torch.randn(2, 6), torch.randn(2, 3)), dynamic_shapes=dims)
    torch.export.save(exported_program, tmp_path / "net.pt2")
    hub = import_file(tmp_path / "net.pt2", tmp_path / "hub", "mask=-1,3;image=-1,6", network_script=None)
    assert names(hub) == ["image", "mask"]
    for shape, words in (("mask=-1,6", "was exported for image"), ("picture=-1,6", "no input 'picture'")):
        with pytest.raises(ParameterError, match=words):
            import_file(tmp_path / "net.pt2", tmp_path / "no", shape, network_script=None)


class Wrapped(nn.Module):
    """Its results come from parts that torch.export keeps apart: the same one twice, an input, and one within another."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 4)
        self.register_buffer("shift", torch.arange(4.0))

    def forward(self, x):
        with torch.no_grad():
            y = self.first(x).tanh() + self.shift
            with torch.autocast("cpu", enabled=False):
                z = self.second(y)
        with torch.enable_grad():
            w = z * y
        return {"w": w, "y": y, "again": y, "z": z.relu(), "x": x}


@pytest.mark.parametrize("form", ["module", "program"])
def test_parts_without_gradients_are_inlined(tmp_path, form):
    """Results of such parts too, and all of it below opset 18, where no exporter takes them."""
    script = tmp_path / "net.py"
    script.write_text("from test_pytorch_signatures import Wrapped as Net\n")
    torch.manual_seed(2)
    module = Wrapped().eval()
    path = tmp_path / ("net.pt" if form == "module" else "net.pt2")
    if form == "module":
        torch.save(module.state_dict(), path)
        hub = import_file(path, tmp_path / "hub", "1,6", network_script=script, network_name="Net")
    else:
        made = torch.export.export(
            module, (torch.randn(3, 6),), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False
        )
        assert "wrap_with_set_grad_enabled" in str(made.graph)
        torch.export.save(made, path)
        hub = import_file(path, tmp_path / "hub", network_script=None)
    kept = torch.export.load(tmp_path / "hub" / "program.pt2")
    assert not [node for node in kept.graph.nodes if isinstance(node.target, torch._ops.HigherOrderOperator)]
    x = torch.from_numpy(np.random.default_rng(4).standard_normal((5, 6)).astype("float32"))
    with torch.no_grad():
        wanted = list(module(x).values())
    for a, b in zip(wanted, runner(hub)([x.numpy()]), strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-5, atol=1e-6)
    assert exported(hub, tmp_path).opset < 18


@pytest.mark.parametrize("batch", [2, 0])
def test_the_batch_of_a_program_that_fixes_it(tmp_path, batch):
    with pytest.raises(ParameterError, match="exported for a batch of 3"):
        import_file(program(tmp_path, True), tmp_path / "hub", network_script=None, batch=batch)
