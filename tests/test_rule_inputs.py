"""What rules ask: the version of a source, options for the shell, memory, paths that stay inside."""

from __future__ import annotations

import json
import os
import shlex
from types import SimpleNamespace

import pytest
from conftest import ROOT

from converter.planning import code_version, library_versions
from converter.planning.config import read_config
from converter.planning.planner import Planner
from converter.planning.rules import imports as import_inputs
from converter.planning.rules.rule_inputs import RuleInputs
from converter.planning.source_files import source_sha256, source_stat


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.h5").write_bytes(b"weights" * 1000)
    return tmp_path


def inputs(**config) -> RuleInputs:
    return RuleInputs(Planner(read_config(config, ROOT / "configs" / "zoo.yaml")))


def hub_of(planned: RuleInputs, name: str = "a.onnx") -> SimpleNamespace:
    """The wildcards of an import."""
    return SimpleNamespace(key=planned.planner.plan(name).source.key)


def version(**config) -> str:
    planned = inputs(**config)
    return planned.source_version(hub_of(planned))


def test_the_version_of_a_source_is_its_bytes(work):
    source, before = work / "models" / "a.h5", version()
    os.utime(source, (0, 0))
    assert version() == before
    changed = bytearray(source.read_bytes())
    changed[5] ^= 1
    source.write_bytes(changed)
    os.utime(source, (0, 0))
    assert version() != before


def test_an_unchanged_file_is_hashed_once(work, monkeypatch):
    """The import notes size, time and hash in its hub; planning trusts them as long as size and time are the same."""
    source = work / "models" / "a.h5"
    planned = inputs()
    before, key = version(), hub_of(planned).key
    hub = work / "intermediate" / key
    hub.mkdir(parents=True)
    recorded = {"sha256": source_sha256(source), "stat": source_stat(source)}
    (hub / "hub.json").write_text(json.dumps({"source": recorded}))
    with monkeypatch.context() as patch:
        patch.setattr(import_inputs, "source_sha256", lambda path: pytest.fail("hashed again"))
        assert version() == before
    os.utime(source)
    assert version() == before
    source.write_bytes(b"other")
    assert version() != before


def test_a_vanished_or_damaged_source_is_the_steps_own_error(work):
    planned = inputs()
    wildcards = hub_of(planned)
    assert planned.source(wildcards) == ["models/a.h5"]
    (work / "models" / "a.h5").unlink()
    assert planned.source(wildcards) == []
    assert planned.source_version(wildcards)
    assert planned.import_memory(wildcards) > 0


@pytest.mark.parametrize("parameter", [{"network_script": "n.py"}, {"verify": {"inputs": "n.py"}}])
def test_files_that_parameters_name_belong_to_the_version(work, parameter):
    config = {"models": {"a": parameter}}
    missing = version(**config)
    (work / "n.py").write_text("1")
    first = version(**config)
    (work / "n.py").write_text("2")
    assert len({missing, first, version(**config)}) == 3


def test_representative_data_belongs_to_the_export(work):
    planned = inputs(models={"a": {"quantization": {"type": "int8", "load": "d.npz"}}})
    wildcards = SimpleNamespace(name="a", extension="tflite")
    (work / "d.npz").write_text("1")
    first, key = planned.data_version(wildcards), hub_of(planned, "a.tflite").key
    (work / "d.npz").write_text("2")
    assert planned.data_version(wildcards) != first
    assert inputs().planner.plan("a.tflite").source.key == key


@pytest.fixture
def both(work) -> RuleInputs:
    """A Keras source a and a PyTorch source p."""
    (work / "models" / "p.pt2").write_bytes(b"program")
    return inputs()


TARGETS = ["a.onnx", "a.tflite", "a.dynamic.tflite", "p.onnx", "p.tflite", "p.dynamic.tflite"]


def keys(planned: RuleInputs, key) -> dict[str, str]:
    found = {}
    for target in TARGETS:
        name, _, extension = target.rpartition(".")
        found[target] = key(planned, SimpleNamespace(name=name, extension=extension))
    return found


@pytest.mark.parametrize(
    ("package", "targets"),
    [
        ("onnxscript", {"p.onnx"}),
        ("tf2onnx", {"a.onnx"}),
        ("litert-torch", {"p.tflite", "p.dynamic.tflite"}),
        ("ai-edge-quantizer", {"a.dynamic.tflite", "p.dynamic.tflite"}),
        ("torch", {"p.onnx", "p.tflite", "p.dynamic.tflite"}),
        ("onnxruntime", {"a.onnx", "p.onnx"}),
    ],
)
def test_another_version_of_a_library_is_a_cause_for_the_targets_that_use_it(both, monkeypatch, package, targets):
    before = keys(both, RuleInputs.export_versions)
    installed = library_versions._version
    monkeypatch.setattr(library_versions, "_version", lambda name: "99" if name == package else installed(name))
    after = keys(both, RuleInputs.export_versions)
    assert {target for target in TARGETS if after[target] != before[target]} == targets


@pytest.mark.parametrize(
    ("module", "targets"),
    [
        ("tf/onnx/export.py", {"a.onnx"}),
        ("torch/onnx/export.py", {"p.onnx", "p.tflite", "p.dynamic.tflite"}),  # the third way of PyTorch models
        ("torch/tflite/export.py", {"p.tflite", "p.dynamic.tflite"}),
        ("torch_to_keras/linear.py", {"p.tflite", "p.dynamic.tflite"}),
        ("zoo/ssd.py", set()),
    ],
)
def test_changed_code_is_a_cause_for_the_targets_that_run_it(both, monkeypatch, module, targets):
    before, read = keys(both, RuleInputs.export_code), code_version._read
    path = code_version.PACKAGES / "converter" / module
    assert path.is_file()

    def edited(file):
        text, imported = read(file)
        return text + ("# edited" if file == path else ""), imported

    monkeypatch.setattr(code_version, "_read", edited)
    code_version.code_version.cache_clear()
    after = keys(both, RuleInputs.export_code)
    monkeypatch.undo()
    code_version.code_version.cache_clear()
    assert {target for target in TARGETS if after[target] != before[target]} == targets


def test_a_recipe_stands_for_the_file_it_makes(work):
    versions = set()
    for weights in ("random", "pretrained"):
        planned = inputs(zoo={"weights": weights})
        wildcards = hub_of(planned, "VGG16.onnx")
        assert planned.source(wildcards) == [] and planned.made_source(wildcards) == ["zoo/VGG16.h5"]
        versions.add(planned.source_version(wildcards))
    assert len(versions) == 2


def test_options_survive_the_shell(work):
    script = 'nets/it\'s; "x" $(y) `z`.py'
    planned = inputs(models={"a": {"network_script": script, "network_args": {"k": "a b"}}})
    words = shlex.split(planned.import_options(hub_of(planned)))
    assert f"--network_script={script}" in words and '--network_args={"k": "a b"}' in words


def test_memory_grows_with_the_source_and_with_each_attempt(work):
    with open(work / "models" / "b.h5", "wb") as file:
        file.truncate(500_000_000)
    planned = inputs()
    small = planned.import_memory(hub_of(planned))
    wildcards = hub_of(planned, "b.onnx")
    assert planned.import_memory(wildcards) > small + 1500
    assert planned.import_memory(wildcards, attempt=2) == 2 * planned.import_memory(wildcards)
    assert planned.export_memory(SimpleNamespace(name="b", extension="onnx")) > 1500


def test_a_refused_target_has_a_hub_with_the_reason(work):
    planned = inputs()
    wildcards = SimpleNamespace(name="gone", extension="onnx")
    assert planned.hub(wildcards) == "intermediate/refused/gone.onnx"
    assert "no source for gone" in shlex.split(planned.refusal(SimpleNamespace(target="gone.onnx")))[0]
    assert planned.model_name(wildcards) == "gone.onnx"
    assert planned.export_memory(wildcards) > 0


def test_paths_of_targets_elsewhere_stay_in_their_folders(work):
    targets = ["../up.onnx", "/abs/x.onnx", "out/y.onnx"]
    planned = inputs(jobs=[{"convert_from": "models/a.h5", "convert_to": target} for target in targets])
    for target in targets:
        wildcards = SimpleNamespace(path=target)
        for path in (planned.staged_elsewhere(wildcards), planned.report_elsewhere(wildcards)):
            assert os.path.normpath(path) == path and path.startswith(("intermediate/staged/", "reports/"))
