"""Loading of PyTorch files: every form computes what the module computes, and every refusal says what to do."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import pytorch_networks
import torch
from pytorch_hub import SCRIPT, import_file, network, saved

from converter.errors import ParameterError, SourceError, UntrustedError
from converter.hub.informative import typical

SHAPE = "1,3,16,16"


def assert_is_net(hub):
    """The reference is what the network computes in eval mode, and the stored program computes the same."""
    module = network("Net")
    program = torch.export.load(str(hub.path / "program.pt2")).module(check_guards=False)
    assert [run.inputs[0].shape[0] for run in typical(hub.reference())[:2]] == [1, 3]
    for run in hub.reference():
        with torch.no_grad():
            expected = module(torch.from_numpy(run.inputs[0])).numpy()
            traced = torch.utils._pytree.tree_leaves(program(torch.from_numpy(run.inputs[0])))[0].numpy()
        np.testing.assert_allclose(run.outputs[0], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(traced, expected, rtol=1e-5, atol=1e-5)
    assert [(spec.name, spec.shape, spec.dtype) for spec in hub.inputs] == [("image", (None, 3, 16, 16), "float32")]
    assert [(spec.name, spec.shape) for spec in hub.outputs] == [("output", (None, 5))]
    assert hub.batch_dynamic
    assert hub.parameters_count == sum(parameter.numel() for parameter in module.parameters())


def write_form(form, path):
    module = network("Net")
    state = module.state_dict()
    example = torch.zeros(2, 3, 16, 16)
    if form in ("whole", "whole_training"):
        torch.save(module.train(form == "whole_training"), path)
    elif form == "whole_old_format":
        torch.save(module, path, _use_new_zipfile_serialization=False)
    elif form == "data_parallel":
        torch.save(torch.nn.DataParallel(module), path)
    elif form == "state":
        torch.save(state, path)
    elif form == "state_old_format":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "checkpoint":
        prefixed = {f"module.{name}": value for name, value in state.items()}
        torch.save({"epoch": 3, "model_state_dict": prefixed, "best": np.float64(0.5), "optimizer": {"lr": 0.1}}, path)
    elif form == "named_key":
        torch.save({"nets": {"student": state, "teacher": {"x": torch.zeros(1)}}}, path)
    elif form == "traced":
        torch.jit.save(torch.jit.trace(module, example), path)
    elif form == "scripted":
        torch.jit.save(torch.jit.script(module), path)
    elif form == "program":
        dynamic = ({0: torch.export.Dim.AUTO},)
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=dynamic), path)


@pytest.mark.parametrize(
    ("form", "parameters"),
    [
        ("whole", {}),
        ("whole_training", {}),
        ("whole_old_format", {}),
        ("data_parallel", {}),
        ("state", {"network_name": "Net"}),
        ("state", {"network_name": "make_net", "network_args": [5]}),
        ("state", {"network_name": "Net", "network_args": {"classes": 5, "width": 8}}),
        ("state_old_format", {"network_name": "Net"}),
        ("checkpoint", {"network_name": "Net"}),
        ("named_key", {"network_name": "Net", "state_dict_key": "nets.student"}),
        ("traced", {"network_script": None}),
        ("scripted", {"network_script": None}),
        ("program", {"network_script": None}),
    ],
)
def test_every_form_of_one_network(tmp_path, form, parameters):
    path = tmp_path / ("net.pt2" if form == "program" else "net.pt")
    write_form(form, path)
    assert_is_net(import_file(path, tmp_path / "hub", SHAPE, **parameters))


def test_class_recorded_under_another_module(tmp_path, monkeypatch):
    """Training scripts record their classes as __main__.Net."""
    monkeypatch.setattr(pytorch_networks.Net, "__module__", "__main__")
    import __main__

    monkeypatch.setattr(__main__, "Net", pytorch_networks.Net, raising=False)
    saved(tmp_path, "Net")
    monkeypatch.undo()
    assert_is_net(import_file(tmp_path / "Net.pt", tmp_path / "hub", SHAPE))


def test_module_of_an_older_release_gets_the_attributes_that_came_later(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.GELU())
    del module[1].approximate
    torch.save(module, tmp_path / "old.pt")
    hub = import_file(tmp_path / "old.pt", tmp_path / "hub", "1,4", network_script=None)
    assert hub.operators["gelu"] == 1


def test_weight_norm_is_folded(tmp_path):
    module = torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3)))
    module[0].parametrizations.weight.original0.data.mul_(2.0)
    (tmp_path / "script.py").write_text(
        "import torch\ndef make():\n"
        "    return torch.nn.Sequential(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3)))\n"
    )
    torch.save(module.state_dict(), tmp_path / "norm.pt")
    hub = import_file(
        tmp_path / "norm.pt", tmp_path / "hub", "1,4", network_script=tmp_path / "script.py", network_name="make"
    )
    assert hub.operators == {"linear": 1}
    expected = module(torch.from_numpy(hub.reference()[0].inputs[0])).detach().numpy()
    np.testing.assert_allclose(hub.reference()[0].outputs[0], expected, rtol=1e-5)


def test_weight_norm_of_a_pickled_module_is_folded(tmp_path):
    """As torch before 2.0 does it, with a hook."""
    module = torch.nn.Sequential(torch.nn.utils.weight_norm(torch.nn.Linear(4, 3))).eval()
    module[0].weight_g.data.mul_(2.0)
    torch.save(module, tmp_path / "norm.pt")
    hub = import_file(tmp_path / "norm.pt", tmp_path / "hub", "1,4", network_script=None)
    assert hub.operators == {"linear": 1} and "weight normalisation was folded into the weights" in hub.notes
    expected = module(torch.from_numpy(hub.reference()[0].inputs[0])).detach().numpy()
    np.testing.assert_allclose(hub.reference()[0].outputs[0], expected, rtol=1e-5)


NORMS = {
    "hooks": "torch.nn.utils.weight_norm(torch.nn.Linear(4, 3)), torch.nn.utils.spectral_norm(torch.nn.Linear(3, 2))",
    "parametrizations": "P.weight_norm(torch.nn.Linear(4, 3)), P.spectral_norm(torch.nn.Linear(3, 2))",
}


@pytest.mark.parametrize(("saved", "built"), [("hooks", "parametrizations"), ("parametrizations", "hooks")])
def test_normalised_weights_of_the_other_form(tmp_path, saved, built):
    """A file from before weight_norm became a parametrization, and the other way round."""
    torch.manual_seed(0)
    make = "import torch\nfrom torch.nn.utils import parametrizations as P\ndef make():\n    return torch.nn.Sequential({})\n"
    script: dict = {}
    exec(make.format(NORMS[saved]), script)
    module = script["make"]()
    module(torch.randn(5, 4))  # in training mode, which moves the spectral norm's vectors
    module.eval()
    (tmp_path / "script.py").write_text(make.format(NORMS[built]))
    torch.save({"net": module.state_dict()}, tmp_path / "norm.pt")
    hub = import_file(
        tmp_path / "norm.pt", tmp_path / "hub", "1,4", network_script=tmp_path / "script.py", network_name="make"
    )
    assert any("names of another form" in note for note in hub.notes)
    expected = module(torch.from_numpy(hub.reference()[0].inputs[0])).detach().numpy()
    np.testing.assert_allclose(hub.reference()[0].outputs[0], expected, rtol=1e-5)
    # A name that is none of these stays a mistake.
    state = {key.replace("1.", "2."): value for key, value in module.state_dict().items()}
    torch.save(state, tmp_path / "norm.pt")
    with pytest.raises(SourceError, match="lacks"):
        import_file(
            tmp_path / "norm.pt", tmp_path / "other", "1,4", network_script=tmp_path / "script.py", network_name="make"
        )


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old", [False, True])
def test_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, old):
    torch.save(
        {"state_dict": network("Net").state_dict(), "x": Payload(tmp_path / "ran")},
        tmp_path / "evil.pt",
        _use_new_zipfile_serialization=not old,
    )
    with pytest.raises(UntrustedError, match=r"posix\.mkdir.*trusted: true"):
        import_file(tmp_path / "evil.pt", tmp_path / "hub", SHAPE, network_name="Net")
    assert not (tmp_path / "ran").exists()
    assert_is_net(import_file(tmp_path / "evil.pt", tmp_path / "hub", SHAPE, network_name="Net", trusted=True))
    assert (tmp_path / "ran").exists()


def test_class_outside_the_script_is_refused_by_name(tmp_path):
    saved(tmp_path, "Net")
    with pytest.raises(UntrustedError, match=r"pytorch_networks\.Net.*network_script"):
        import_file(tmp_path / "Net.pt", tmp_path / "hub", SHAPE, network_script=None)


def test_functions_of_a_script_are_not_callable_from_a_pickle(tmp_path):
    """Only classes of the script are on the allow-list: a pickle may not call its functions with its own arguments."""

    class Call:
        def __reduce__(self):
            return pytorch_networks.make_net, (5,)

    torch.save(Call(), tmp_path / "call.pt")
    with pytest.raises(UntrustedError, match="make_net"):
        import_file(tmp_path / "call.pt", tmp_path / "hub", SHAPE)


def test_graph_module_is_refused(tmp_path):
    """torch.fx pickles its modules as Python source, which loading would run."""
    torch.save(torch.fx.symbolic_trace(network("Net")), tmp_path / "fx.pt")
    with pytest.raises(UntrustedError, match="torch.fx.graph_module"):
        import_file(tmp_path / "fx.pt", tmp_path / "hub", SHAPE)


def test_torchscript_that_writes_files_is_refused(tmp_path):
    class Writer(torch.nn.Module):
        def forward(self, x):
            torch.save(x, "stolen.pt")
            return x

    torch.jit.save(torch.jit.script(Writer()), tmp_path / "writer.pt")
    with pytest.raises(UntrustedError, match=r"torch\.save"):
        import_file(tmp_path / "writer.pt", tmp_path / "hub", "1,4")


def edit_program(path, edit):
    """Rewrite models/model.json of a program, or add files to its archive."""
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, edit(name, data) if name.endswith("models/model.json") else data)


def test_program_with_python_for_a_size_is_refused(tmp_path):
    path = tmp_path / "net.pt2"
    write_form("program", path)

    def plant(name, data):
        text = json.dumps(json.loads(data))
        assert "expr_str" in text
        return text.replace("Symbol('", "__import__('os').getpid() + Symbol('", 1).encode()

    edit_program(path, plant)
    with pytest.raises(UntrustedError, match="Python in place of a size"):
        import_file(path, tmp_path / "hub", network_script=None)


def refusals():
    yield "missing_script", {"network_script": Path("nowhere.py"), "network_name": "Net"}, "there is no file nowhere.py"
    yield "no script", {"network_script": None}, r"holds weights only.*network_script and network_name"
    yield "unknown class", {"network_name": "Nett"}, r"defines no 'Nett'; it has Net"
    yield "several classes", {}, r"network_name is needed: .* defines Branches, "
    yield "missing argument", {"network_name": "make_net"}, r"make_net\(classes\).*missing a required argument"
    yield (
        "unknown argument",
        {"network_name": "Net", "network_args": {"depth": 2}},
        "unexpected keyword argument 'depth'",
    )
    yield (
        "wrong size",
        {"network_name": "Net", "network_args": [7]},
        r"fc.weight is \[5, 128\] in the file and \[7, 128\]",
    )
    yield "other network", {"network_name": "UNet"}, r"lacks down.weight, .*UNet has no conv.weight"
    yield "key", {"network_name": "Net", "state_dict_key": "weights"}, r"no entry 'weights'; it has"


@pytest.mark.parametrize(("case", "parameters", "message"), list(refusals()))
def test_refusals_of_a_state_dict(tmp_path, case, parameters, message):
    write_form("state", tmp_path / "net.pt")
    with pytest.raises((ParameterError, SourceError), match=message):
        import_file(tmp_path / "net.pt", tmp_path / "hub", SHAPE, **parameters)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('no such thing')", r"script.py raised ValueError: no such thing \(line 1\)"),
        ("import a_module_that_is_not_there", r"raised ModuleNotFoundError: No module named 'a_module"),
        ("def broken(:", r"raised SyntaxError.*line 1"),
        ("import sys\nsys.exit(3)", r"raised SystemExit: 3"),
    ],
)
def test_script_that_raises_is_one_sentence(tmp_path, source, message):
    write_form("state", tmp_path / "net.pt")
    (tmp_path / "script.py").write_text(source)
    with pytest.raises(ParameterError, match=message):
        import_file(tmp_path / "net.pt", tmp_path / "hub", SHAPE, network_script=tmp_path / "script.py")


def test_constructor_that_raises_names_its_line(tmp_path):
    write_form("state", tmp_path / "net.pt")
    (tmp_path / "script.py").write_text("def make():\n    raise RuntimeError('no weights here')\n")
    with pytest.raises(
        ParameterError, match=r"make\(\) of .*script.py raised RuntimeError: no weights here \(line 2\)"
    ):
        import_file(
            tmp_path / "net.pt", tmp_path / "hub", SHAPE, network_script=tmp_path / "script.py", network_name="make"
        )


def damaged(folder):
    module = network("Net")
    torch.save(module.state_dict(), folder / "cut.pt")
    content = (folder / "cut.pt").read_bytes()
    (folder / "cut.pt").write_bytes(content[: len(content) // 2])
    (folder / "empty.pt").write_bytes(b"")
    (folder / "text.pt").write_bytes(b"not a model")
    (folder / "hdf5.pt").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with zipfile.ZipFile(folder / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "a")
    torch.save(torch.zeros(3), folder / "tensor.pt")
    torch.save({"loss": 1.0}, folder / "log.pt")


@pytest.mark.parametrize("name", ["cut", "empty", "text", "hdf5", "zip", "tensor", "log"])
def test_files_that_are_no_models(tmp_path, name):
    damaged(tmp_path)
    with pytest.raises(SourceError, match=f"{name}.pt"):
        import_file(tmp_path / f"{name}.pt", tmp_path / "hub", SHAPE, network_name="Net")


def test_script_path_with_spaces_and_siblings(tmp_path):
    folder = tmp_path / "my nets"
    folder.mkdir()
    (folder / "blocks_beside.py").write_text(SCRIPT.read_text())
    (folder / "the net.py").write_text("from blocks_beside import Net as Base\n\n\nclass Wrapped(Base):\n    pass\n")
    write_form("state", tmp_path / "net.pt")
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", SHAPE, network_script=folder / "the net.py")
    assert_is_net(hub)


def test_names_of_one_s_own_modules_that_torch_writes_as_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import torch\ndef make():\n    module = torch.nn.Sequential()\n"
        "    module.add_module('a\\\\frac', torch.nn.Linear(4, 3))\n    return module\n"
    )
    namespace: dict = {}
    exec(script.read_text(), namespace)
    torch.save(namespace["make"]().state_dict(), tmp_path / "net.pt")
    with pytest.raises(UntrustedError, match=r"'a\\\\frac\.weight'|'a\\\\frac'.*name it with letters"):
        import_file(tmp_path / "net.pt", tmp_path / "hub", "1,4", network_script=script, network_name="make")
