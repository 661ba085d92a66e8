"""Networks that network_name names in an installed package, and their arguments in a file of their own."""

import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from pytorch_hub import import_file

from converter.contracts import import_spec
from converter.errors import ParameterError
from converter.importing.installed import distribution_of, is_dotted, load_installed
from converter.planning.config import read_config
from converter.planning.parameters import flags, normalize
from converter.planning.planner import Planner
from converter.planning.rules.rule_inputs import RuleInputs

SOURCE = """
import torch
from . import parts


class Small(torch.nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.fc = torch.nn.Linear(4, classes)

    def forward(self, x):
        return self.fc(x)


class zoo:
    small = Small


def broken():
    raise RuntimeError("no such weights here")
"""


def install(folder, name, source=SOURCE, version="1.2"):
    """As pip does: the package, and the record of its files beside it."""
    package, record = folder / name, folder / f"{name}-{version}.dist-info"
    package.mkdir(parents=True)
    record.mkdir()
    (package / "__init__.py").write_text(source)
    (package / "parts.py").write_text("def small():\n    from . import Small\n    return Small(3)\n")
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (record / "RECORD").write_text(f"{name}/__init__.py,,\n{name}/parts.py,,\n{name}-{version}.dist-info/RECORD,,\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of packages with one package, tiny_networks; the working folder is another."""
    folder = tmp_path / "env" / "site-packages"
    install(folder, "tiny_networks")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tiny_networks", "own_networks")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "arguments", "classes"),
    [
        ("tiny_networks.Small", None, 2),
        ("tiny_networks.Small", {"classes": 5}, 5),
        ("tiny_networks:zoo.small", [4], 4),
        ("tiny_networks.zoo.small", None, 2),
        ("tiny_networks.parts:small", None, 3),
        ("tiny_networks.parts.small", None, 3),
    ],
)
def test_class_or_factory_of_a_package_builds_the_network(site, tmp_path, name, arguments, classes):
    torch.save(torch.nn.Linear(4, classes).state_dict(), tmp_path / "a.pt")
    state = torch.load(tmp_path / "a.pt")
    torch.save({f"fc.{key}": value for key, value in state.items()}, tmp_path / "net.pt")
    hub = import_file(
        tmp_path / "net.pt", tmp_path / "hub", "1,4", network_script=None, network_name=name, network_args=arguments
    )
    run = hub.reference()[0]
    expected = torch.from_numpy(run.inputs[0]) @ state["weight"].T + state["bias"]
    torch.testing.assert_close(torch.from_numpy(run.outputs[0]), expected)
    assert any("of tiny_networks 1.2" in note for note in hub.notes)


def test_network_of_torchvision(tmp_path):
    import torchvision

    torch.manual_seed(0)
    module = torchvision.models.squeezenet1_1(num_classes=3).eval()
    torch.save({"state_dict": module.state_dict()}, tmp_path / "pytorch_model.bin")
    hub = import_file(
        tmp_path / "pytorch_model.bin",
        tmp_path / "hub",
        "1,3,32,32",
        network_script=None,
        network_name="torchvision.models.squeezenet1_1",
        network_args={"num_classes": 3},
    )
    run = hub.reference()[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(run.outputs[0]), module(torch.from_numpy(run.inputs[0])))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_network.Small", "no package tiny_network is installed here; did you mean tiny_networks"),
        (
            "quite_unknown_thing.Small",
            "no package quite_unknown_thing is installed here; install quite_unknown_thing, or",
        ),
        ("tiny_networks.Smoll", r"tiny_networks \(tiny_networks 1.2\) has no 'Smoll'; it has Small"),
        ("tiny_networks.zoo.smoll", "has no 'smoll'; it has small"),
        ("tiny_networks.part:small", "tiny_networks has no module 'part'; it has parts"),
        ("tiny_networks.parts", "which is a module: write the class or function in it, as tiny_networks.parts:build"),
        ("tiny_networks.broken", r"broken\(\) of tiny_networks .* raised RuntimeError: no such weights here"),
        ("os.system", "os is Python's own"),
        ("subprocess:run", "subprocess is Python's own"),
        ("Small", "no network_script says where it is defined: write one, or a name in an installed package"),
    ],
)
def test_unknown_names_are_one_sentence_with_near_ones(site, tmp_path, name, message):
    torch.save({"fc.weight": torch.ones(2, 4), "fc.bias": torch.ones(2)}, tmp_path / "net.pt")
    with pytest.raises(ParameterError, match=message):
        import_file(tmp_path / "net.pt", tmp_path / "hub", "1,4", network_script=None, network_name=name)


@pytest.mark.parametrize("pretends", [False, True])
def test_modules_of_the_working_folder_are_never_imported(site, tmp_path, monkeypatch, pretends):
    """Whether or not the folder looks like one of packages."""
    work, ran = tmp_path / "work", tmp_path / "ran"
    source = f"open({str(ran)!r}, 'w').close()\n"
    if pretends:
        install(work, "own_networks", source)
        install(work / "models", "deep_networks", source)
    else:
        (work / "own_networks.py").write_text(source)
    monkeypatch.syspath_prepend(work / "models")
    monkeypatch.syspath_prepend(work)
    with pytest.raises(
        ParameterError, match=r"own_networks\S* is no installed package: write its file as network_script"
    ):
        load_installed("own_networks:Small")
    with pytest.raises(ParameterError, match="deep_networks"):
        load_installed("deep_networks:Small")
    # Nor does it hide the installed one, or stand in its place.
    (work / "tiny_networks.py").write_text(source)
    with pytest.raises(ParameterError, match=r"tiny_networks.py is no installed package"):
        load_installed("tiny_networks:Small")
    assert not ran.exists()


def test_folder_that_pip_filled_counts(site, tmp_path, monkeypatch):
    """pip install --target, with PYTHONPATH."""
    install(tmp_path / "extra", "own_networks", version="3.4")
    assert distribution_of("own_networks.Small") is None
    monkeypatch.syspath_prepend(tmp_path / "extra")
    assert distribution_of("own_networks.Small").version == "3.4"
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose" / "loose_networks.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "loose")
    assert distribution_of("loose_networks.Small") is None


@pytest.mark.parametrize("name", ["a.b", "a:b", "a.b:c.d", "_a._b"])
def test_dotted_names(name):
    assert is_dotted(name)


@pytest.mark.parametrize("name", ["a", "a:", ":b", "a..b", "a.b()", "a.b:c:d", "a b.c", "../a.b", "a.1"])
def test_other_names_are_not_dotted(name):
    assert not is_dotted(name)


@pytest.mark.parametrize(
    ("file", "text", "values"),
    [
        ("args.json", '{"classes": 3, "names": ["a"]}', {"classes": 3, "names": ["a"]}),
        ("args.yaml", "classes: 3\nnames: [a]\n", {"classes": 3, "names": ["a"]}),
        ("my args.yml", "- 3\n- true\n", [3, True]),
    ],
)
def test_arguments_in_a_file(tmp_path, file, text, values):
    path = tmp_path / file
    path.write_text(text)
    canonical = normalize("network_args", str(path))
    assert canonical == str(path) and file in flags({"network_args": canonical})
    assert import_spec(tmp_path / "a.pt", "pytorch", {"network_args": canonical}).network_args == values


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("args.json", None, r"args.json cannot be read \(No such file"),
        ("args.json", "{classes: 3}", "args.json is no JSON"),
        ("args.yaml", "a: [1", "args.yaml is no YAML"),
        ("args.yaml", "!!python/object/apply:os.system [ls]", "args.yaml is no YAML"),
        ("args.yaml", "when: 2020-99-99", "args.yaml is no YAML"),
        ("args.yaml", "classes", "args.yaml holds a text; write a mapping or a list"),
        ("args.yaml", "3", r"network_args is 3; write a mapping or a list"),
        ("args.yaml", "when: 2020-01-01", "which JSON can express"),
        ("args.yaml", "a: &a [*a]", "alias that contains itself"),
    ],
)
def test_files_without_arguments_are_one_sentence(tmp_path, file, text, message):
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(ParameterError, match=message):
        import_spec(tmp_path / "a.pt", "pytorch", {"network_args": str(tmp_path / file)})


def key(**parameters):
    """The version of models/net.pt, of which a rebuild depends."""
    planned = RuleInputs(Planner(read_config({"models": {"net": parameters}}, ROOT / "configs" / "zoo.yaml")))
    return planned.source_version(SimpleNamespace(key=planned.planner.plan("net.onnx").source.key))


def test_bytes_of_the_arguments_and_version_of_the_package_count_towards_the_rebuild_key(site, tmp_path):
    work = tmp_path / "work"
    (work / "models").mkdir()
    torch.save({"fc.weight": torch.ones(2, 4)}, work / "models" / "net.pt")
    parameters = {"network_name": "tiny_networks.Small", "network_args": "args.yaml"}
    keys = []
    for text in ("classes: 2", "classes: 3", "classes: 2"):
        (work / "args.yaml").write_text(text)
        keys.append(key(**parameters))
    assert keys[0] == keys[2] != keys[1]
    assert key(**parameters, input_shape="1,4") == keys[0]
    (site / "tiny_networks-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: t\nVersion: 1.3\n")
    assert key(**parameters) != keys[0]
