"""Directories of Hugging Face and timm: found, read without running what they bring, with the inputs of their kind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import ROOT
from huggingface_models import BERT, bert, llama, t5, timm_directory, transformers, vit
from imports import refused, run_step

from converter.planning.config import read_config
from converter.planning.planner import Planner
from converter.planning.source_files import source_files
from converter.torch.program.run_hub import runner
from converter.verification.runtimes import TFLiteModel

SCRIPT = "import_huggingface"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def imported(folder: Path, out: Path, **parameters):
    hub = run_step(SCRIPT, folder, out, **parameters)
    assert hub.error is None, hub.error
    return hub


def inputs(hub):
    return [(spec.name, spec.shape, spec.dtype) for spec in hub.inputs]


def compare(hub, model, feeds):
    """The program in the hub and the model itself, by the names of its outputs."""
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    got = dict(zip([spec.name for spec in hub.outputs], runner(hub)([feeds[s.name] for s in hub.inputs]), strict=True))
    for name, array in got.items():
        np.testing.assert_allclose(wanted[name].numpy(), array, rtol=1e-4, atol=1e-5)
    return got


def test_conversions_in_one_run(project):
    """Found by name, converted through Snakemake, right on sizes of ours; nothing is looked for on the network."""
    model = bert(project.folder / "models" / "bert")
    timm_directory(project.folder / "models" / "rexnet")
    targets = ["bert.onnx", "bert.tflite", "rexnet.onnx", "rexnet.tflite"]
    run = project.snakemake(*(f"converted/{target}" for target in targets))
    assert run.returncode == 0, run.stderr
    assert project.converted() == targets
    session = onnxruntime.InferenceSession(project.folder / "converted" / "bert.onnx")
    rng = np.random.default_rng(0)
    for batch, length in ((1, 3), (5, 11), (2, 40)):
        feeds = {
            "input_ids": rng.integers(0, 61, (batch, length)),
            "attention_mask": rng.integers(0, 2, (batch, length)),
            "token_type_ids": rng.integers(0, 2, (batch, length)),
        }
        with torch.no_grad():
            wanted = model(**{name: torch.from_numpy(array) for name, array in feeds.items()}).logits.numpy()
        (got,) = session.run(["logits"], feeds)
        np.testing.assert_allclose(wanted, got, rtol=1e-4, atol=1e-5)
    assert "Nothing to be done" in project.snakemake("converted/bert.onnx").stderr
    file = TFLiteModel(project.folder / "converted" / "bert.tflite")
    given = {name: rng.integers(0, 61 if name == "input_ids" else 2, (3, 32)) for name in feeds}
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in given.items()}).logits.numpy()
    (got,) = file.run([given[spec.name].astype(spec.dtype) for spec in file.inputs])
    np.testing.assert_allclose(wanted, got, rtol=1e-4, atol=1e-5)


def test_lengths_that_targets_fix(tmp_path, monkeypatch):
    """Of TensorFlow Lite and Keras files where nobody says them; images, which have none, keep one import for all targets."""
    monkeypatch.chdir(tmp_path)
    bert(tmp_path / "models" / "bert")
    vit(tmp_path / "models" / "vit")
    timm_directory(tmp_path / "models" / "rexnet")

    def lengths(**entry):
        planner = Planner(read_config({"models": {"bert": entry, "vit": {}}}, ROOT / "configs" / "zoo.yaml"))
        plans = [
            planner.require(name) for name in ("bert.onnx", "bert.tflite", "bert.keras", "vit.tflite", "rexnet.tflite")
        ]
        return [plan.source.parameters.get("length") for plan in plans]

    assert lengths() == [None, "usual", "usual", None, None]
    assert lengths(length="free") == ["free", "free", "free", None, None]
    assert lengths(length=12) == ["12", "12", "12", None, None]
    assert lengths(input_shape="input_ids=int64:1,9") == [None] * 5
    hub = imported(tmp_path / "models" / "bert", tmp_path / "hub", length="usual")
    assert {spec.shape for spec in hub.inputs} == {(None, 32)}  # 128 and 64 are more than its 40 positions
    assert "length fixed at 32" in hub.decisions


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"length": "12", "input_shape": "input_ids=int64:1,9"}, "leave one of them out"),
        ({"length": "41"}, "which inputs BertForSequenceClassification takes is not known"),
    ],
)
def test_lengths_that_cannot_be(tmp_path, parameters, said):
    bert(tmp_path / "bert")
    assert said in refused(SCRIPT, tmp_path / "bert", tmp_path / "hub", **parameters)


def test_a_length_where_there_are_no_lengths(tmp_path):
    vit(tmp_path / "vit")
    assert "leave it out" in refused(SCRIPT, tmp_path / "vit", tmp_path / "hub", length="12")
    timm_directory(tmp_path / "rexnet")
    assert "leave it out" in refused(SCRIPT, tmp_path / "rexnet", tmp_path / "hub", length="12")


TEXT = (None, None)
KINDS = {
    "BertModel": ["input_ids", "attention_mask", "token_type_ids"],
    "BertForMaskedLM": ["input_ids", "attention_mask", "token_type_ids"],
    "BertForTokenClassification": ["input_ids", "attention_mask", "token_type_ids"],
    "BertForQuestionAnswering": ["input_ids", "attention_mask", "token_type_ids"],
    "BertForNextSentencePrediction": ["input_ids", "attention_mask", "token_type_ids"],
}


@pytest.mark.parametrize("name", KINDS)
def test_heads(tmp_path, name):
    model = bert(tmp_path / "bert", name)
    hub = imported(tmp_path / "bert", tmp_path / "hub")
    assert inputs(hub) == [(argument, TEXT, "int64") for argument in KINDS[name]]
    assert max(run.inputs[0].max() for run in hub.reference()) == BERT["vocab_size"] - 1
    assert {int(v) for run in hub.reference() for v in np.unique(run.inputs[1])} == {0, 1}
    rng = np.random.default_rng(1)
    feeds = {n: rng.integers(0, 61 if n == "input_ids" else 2, (3, 9)) for n in KINDS[name]}
    got = compare(hub, model, feeds)
    assert list(got) == list(model(**{n: torch.from_numpy(a) for n, a in feeds.items()}))


def test_a_causal_decoder_whose_mask_hides_whole_rows(tmp_path):
    """No past keys and values; a hidden row is what transformers makes of it."""
    model = llama(tmp_path / "llama")
    hub = imported(tmp_path / "llama", tmp_path / "hub")
    assert inputs(hub) == [("input_ids", TEXT, "int64"), ("attention_mask", TEXT, "int64")]
    assert [spec.name for spec in hub.outputs] == ["logits"]
    mask = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    ids = np.random.default_rng(2).integers(0, 53, mask.shape)
    compare(hub, model, {"input_ids": ids, "attention_mask": mask})


def test_an_encoder_with_its_decoder(tmp_path):
    model = t5(tmp_path / "t5")
    hub = imported(tmp_path / "t5", tmp_path / "hub")
    assert [name for name, _, _ in inputs(hub)] == ["input_ids", "attention_mask", "decoder_input_ids"]
    rng = np.random.default_rng(3)
    feeds = {"input_ids": rng.integers(0, 47, (2, 7)), "attention_mask": rng.integers(0, 2, (2, 7))}
    compare(hub, model, {**feeds, "decoder_input_ids": rng.integers(0, 47, (2, 4))})


def test_images_of_the_configured_size(tmp_path):
    vit(tmp_path / "vit")
    hub = imported(tmp_path / "vit", tmp_path / "hub")
    assert inputs(hub) == [("pixel_values", (None, 3, 32, 32), "float32")]
    assert inputs(imported(tmp_path / "vit", tmp_path / "fixed", batch="2"))[0][1] == (2, 3, 32, 32)


def test_the_class_and_the_inputs_that_the_user_names(tmp_path):
    """Weights of a head that is not asked for are a note; those that are missing would be random."""
    bert(tmp_path / "bert")
    hub = imported(tmp_path / "bert", tmp_path / "hub", network_name="AutoModel", input_shape="input_ids=int64:-1,-1")
    assert inputs(hub) == [("input_ids", TEXT, "int64")]
    assert any("weights of the files are not BertModel's (classifier.bias" in note for note in hub.notes)
    sentence = refused(SCRIPT, tmp_path / "bert", tmp_path / "hub2", network_name="BertForMaskedLM")
    assert "would be random" in sentence and "cls.predictions" in sentence
    for name, words in (("BertForMaskedLN", "did you mean BertForMaskedLM"), ("AutoModelForCTC", "has no class for")):
        assert words in refused(SCRIPT, tmp_path / "bert", tmp_path / name, network_name=name)


def test_parameters_are_used_or_refused(tmp_path):
    """None is dropped without a word: values of arguments, and what does not apply to a directory, or to one of timm."""
    model = bert(tmp_path / "bert", "BertModel")
    ids = np.random.default_rng(7).integers(0, 61, (2, 5))
    types = torch.ones(2, 5, dtype=torch.int64)
    hub = imported(tmp_path / "bert", tmp_path / "hub", constants={"output_hidden_states": True})
    assert sum(spec.name.startswith("hidden_states") for spec in hub.outputs) == BERT["num_hidden_layers"] + 1
    mask = np.ones_like(ids)
    compared = runner(hub)([ids, mask, types.numpy()])[0]
    with torch.no_grad():
        wanted = model(torch.from_numpy(ids), torch.from_numpy(mask), token_type_ids=types).last_hidden_state
    np.testing.assert_allclose(wanted.numpy(), compared, rtol=1e-4, atol=1e-5)
    for parameters, words in (
        ({"constants": {"output_hidden_state": True}}, "has no argument 'output_hidden_state'"),
        ({"toolchain": "tf2.3"}, "leave toolchain out"),
    ):
        assert words in refused(SCRIPT, tmp_path / "bert", tmp_path / "no", **parameters)
    timm_directory(tmp_path / "resnet")
    assert "leave it out" in refused(SCRIPT, tmp_path / "resnet", tmp_path / "no", network_name="ResNet")


@pytest.mark.parametrize("form", ["shards", "pickle", "pickled shards", "half"])
def test_forms_of_weights(tmp_path, form):
    """All give the numbers of the same model; half precision is computed with in float32, which is said."""
    folder = tmp_path / "bert"
    model = bert(folder, max_shard_size="8KB" if "shards" in form else "5GB")
    if "shards" in form:
        assert len(list(folder.glob("*.safetensors"))) > 1
    if "pickle" in form:
        to_pickles(folder)
    if form == "half":
        model.to(torch.bfloat16).save_pretrained(folder)
        model = model.float()
    hub = imported(folder, tmp_path / "hub")
    rng = np.random.default_rng(5)
    feeds = {s.name: rng.integers(0, 61 if s.name == "input_ids" else 2, (3, 9)) for s in hub.inputs}
    compare(hub, model, feeds)
    assert hub.decisions == (["computed in float32"] if form == "half" else [])


def to_pickles(folder: Path) -> None:
    """The weights as older versions of transformers wrote them."""
    from safetensors.torch import load_file

    for path in folder.glob("*.safetensors"):
        torch.save(load_file(path), folder / path.name.replace("model", "pytorch_model").replace("safetensors", "bin"))
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        text = index.read_text().replace("model-", "pytorch_model-").replace(".safetensors", ".bin")
        (folder / "pytorch_model.bin.index.json").write_text(text)
        index.unlink()


def change(folder: Path, **entries: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


DAMAGE = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "has no weights"),
    "weights of TensorFlow": (
        lambda f: (f / "model.safetensors").rename(f / "tf_model.h5"),
        "has weights of TensorFlow only",
    ),
    "a pointer": (lambda f: (f / "model.safetensors").write_text(LFS), "run git lfs pull"),
    "cut off": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]),
        "model.safetensors is damaged",
    ),
    "another model": (lambda f: change(f, model_type="bertt"), "no model of type 'bertt'; did you mean bert"),
    "no kind": (lambda f: change(f, model_type=None), "names neither a model_type"),
    "no class": (lambda f: change(f, architectures=None), "write it in network_name"),
    "other sizes": (lambda f: change(f, hidden_size=32), "of another size"),
    "more layers": (lambda f: change(f, num_hidden_layers=3), "would be random"),
    "quantized": (lambda f: change(f, quantization_config={"quant_method": "gptq"}), "quantized with gptq"),
    "code": (lambda f: change(f, auto_map={"AutoModel": "modeling_x.Net"}), "Python code of its own"),
    "a class that is none": (lambda f: change(f, architectures=["Trainer"]), "has no model class 'Trainer'"),
    "a function of Python": (lambda f: change(f, architectures=["os.system"]), "has no model class 'os.system'"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "is no JSON file"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), "holds no mapping"),
    "deep": (lambda f: (f / "config.json").write_text("[" * 100_000), "is no JSON file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_cannot_be_read(tmp_path, kind):
    bert(tmp_path / "bert")
    damage, words = DAMAGE[kind]
    damage(tmp_path / "bert")
    assert words in refused(SCRIPT, tmp_path / "bert", tmp_path / "hub")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/hostname", "weights.py", "", 7])
def test_an_index_that_leads_elsewhere(tmp_path, name):
    folder = tmp_path / "bert"
    bert(folder, max_shard_size="8KB")
    index = folder / "model.safetensors.index.json"
    stored = json.loads(index.read_text())
    first = next(iter(stored["weight_map"]))
    stored["weight_map"][first] = name
    index.write_text(json.dumps(stored))
    assert "no weight_map that says which file beside it" in refused(SCRIPT, folder, tmp_path / "hub")


def test_a_shard_that_is_missing(tmp_path):
    folder = tmp_path / "bert"
    bert(folder, max_shard_size="8KB")
    gone = sorted(folder.glob("*.safetensors"))[1]
    gone.unlink()
    assert f"lacks {gone.name}" in refused(SCRIPT, folder, tmp_path / "hub")


def test_settings_that_would_load_other_things(tmp_path):
    """Kernels, attention of other packages, backbones to download: none is followed, and the model is what it is."""
    folder = tmp_path / "bert"
    model = bert(folder)
    change(
        folder,
        attn_implementation="kernels-community/flash-attn",
        _attn_implementation="kernels-community/flash-attn",
        use_pretrained_backbone=True,
        transformers_weights="../../secret.safetensors",
        kernel_config={"BertLayer": "someone/kernel"},
        _name_or_path="someone/else",
    )
    hub = imported(folder, tmp_path / "hub")
    rng = np.random.default_rng(6)
    compare(hub, model, {s.name: rng.integers(0, 2, (2, 5)) for s in hub.inputs})


OWN = {
    "configuration_own.py": """
from transformers import PreTrainedConfig

class OwnConfig(PreTrainedConfig):
    model_type = "own"
    width: int = 6
""",
    "modeling_own.py": """
import torch
from transformers import PreTrainedModel
from .configuration_own import OwnConfig

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(config.width, 3)
        self.post_init()

    def forward(self, pixel_values):
        return {"scores": self.head(pixel_values).tanh()}
""",
}


def test_code_that_comes_with_a_model(tmp_path):
    """Run where the user trusts it, from files beside the configuration only."""
    from safetensors.torch import save_file

    folder = tmp_path / "own_model"
    folder.mkdir()
    for name, text in OWN.items():
        (folder / name).write_text(text)
    torch.manual_seed(0)
    head = torch.nn.Linear(5, 3)
    save_file({"head.weight": head.weight.data, "head.bias": head.bias.data}, folder / "model.safetensors")
    config = {"model_type": "own", "architectures": ["OwnModel"], "width": 5}
    config["auto_map"] = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps(config))
    assert "Python code of its own" in refused(SCRIPT, folder, tmp_path / "hub")
    hub = imported(folder, tmp_path / "trusted", trusted=True, input_shape="1,5")
    run = hub.reference()[0]
    wanted = head(torch.from_numpy(run.inputs[0])).tanh().detach().numpy()
    np.testing.assert_allclose(wanted, run.outputs[0], rtol=1e-5, atol=1e-6)
    for reference in ("someone/repo--modeling_own.OwnModel", "../modeling_own.OwnModel", "gone.OwnModel"):
        change(folder, auto_map={"AutoModel": reference})
        assert "no Python file beside it" in refused(SCRIPT, folder, tmp_path / "no", trusted=True)


def test_what_lies_beside_the_model_is_not_read(tmp_path):
    """Neither hashed nor measured: other forms of the weights, and a checkout's own folder."""
    folder = tmp_path / "bert"
    bert(folder)
    (folder / ".git").mkdir()
    for name in (".git/objects", "tf_model.h5", "README.md", "onnx.onnx", "pytorch_model.bin"):
        (folder / name).write_bytes(b"x")
    assert [path.name for path in source_files(folder)] == ["config.json", "model.safetensors"]


def test_transformers_is_the_one_of_the_list():
    listed = (Path(__file__).parents[1] / "requirements-torch.txt").read_text()
    assert f"transformers=={transformers.__version__}" in listed


def test_types_for_which_transformers_takes_the_class_of_another(tmp_path):
    """InternLM3 is a Llama in transformers 5.23."""
    from transformers import InternLM3Config, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    config = InternLM3Config(**sizes, num_attention_heads=2, num_key_value_heads=2, head_dim=8)
    LlamaForCausalLM(config).eval().save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "internlm3"
    assert imported(tmp_path / "model", tmp_path / "hub").extra["module"] == "LlamaForCausalLM"
