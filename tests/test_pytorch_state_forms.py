"""State dicts as training leaves them: wrappers' prefixes, normalised weights, averages, entries too many and too few."""

import numpy as np
import pytest
import torch
from pytorch_hub import import_file, network
from torch.nn.utils import parametrizations as new
from torch.nn.utils import spectral_norm, weight_norm

from converter.errors import ParameterError, SourceError

LAYERS = {"conv": (torch.nn.Conv1d, 3, 4, 3), "up": (torch.nn.ConvTranspose1d, 4, 4, 3), "fc": (torch.nn.Linear, 4, 2)}
NORMS = {
    "old weight_norm": weight_norm,
    "old weight_norm of all": lambda layer: weight_norm(layer, dim=None),
    "old spectral_norm": spectral_norm,
    "weight_norm": new.weight_norm,
    "spectral_norm": new.spectral_norm,
}


class Voice(torch.nn.Module):
    """(N, 3, L) -> (N, 2), each layer normalised by `norm` or plain."""

    def __init__(self, norm=None):
        super().__init__()
        for name, (kind, *sizes) in LAYERS.items():
            layer = kind(*sizes)
            setattr(self, name, NORMS[norm](layer) if norm else layer)

    def forward(self, sound):
        return self.fc(self.up(self.conv(sound).relu()).relu().mean(-1))


def voice(norm=None):
    """In eval mode, with scales and vectors that no constructor makes."""
    torch.manual_seed(1)
    module = Voice(norm)
    if norm:
        module(torch.randn(2, 3, 9))  # moves spectral_norm's vectors
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.3).add_(0.05 * torch.randn_like(parameter))
    return module.eval()


def removed(module):
    """The same computation without normalisation, by torch's own functions."""
    with torch.no_grad():
        for layer in (module.conv, module.up, module.fc):
            if torch.nn.utils.parametrize.is_parametrized(layer):
                torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")
            elif hasattr(layer, "weight_g"):
                torch.nn.utils.remove_weight_norm(layer)
            else:
                torch.nn.utils.remove_spectral_norm(layer)
    return module


def imported(folder, content, arguments=None, shape="1,3,12", network="Voice", **parameters):
    torch.save(content, folder / "net.pt")
    (folder / "net.py").write_text("from test_pytorch_state_forms import *\n")
    return import_file(
        folder / "net.pt",
        folder / "hub",
        shape,
        network_script=folder / "net.py",
        network_name=network,
        network_args=arguments,
        **parameters,
    )


def assert_computes(hub, module):
    for run in hub.reference()[:2]:
        with torch.no_grad():
            expected = module(torch.from_numpy(run.inputs[0])).numpy()
        np.testing.assert_allclose(run.outputs[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("prefix", ["", "module.generator."])
def test_normalised_file_in_a_plain_module(tmp_path, norm, prefix):
    module = voice(norm)
    state = {prefix + key: value for key, value in module.state_dict().items()}
    hub = imported(tmp_path, {"ema": state, "step": 3}, state_dict_key="ema")
    assert_computes(hub, module)
    assert any(note.startswith("3 weights were computed") for note in hub.notes)
    assert hub.decisions == []


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("prefix", ["", "module.generator."])
def test_plain_file_in_a_normalised_module(tmp_path, norm, prefix):
    module = removed(voice(norm))
    assert "conv.weight" in module.state_dict()
    hub = imported(tmp_path, {prefix + key: value for key, value in module.state_dict().items()}, [norm])
    assert_computes(hub, module)
    assert any("were taken off 3 weights" in note for note in hub.notes)
    assert hub.operators["conv1d"] == 1 and not {"_weight_norm", "dot", "mv"} & hub.operators.keys()


def test_layers_of_several_forms_in_one_file(tmp_path):
    """A vocoder whose first layer had its normalisation removed, in a module of the new form."""
    module = voice("old weight_norm")
    torch.nn.utils.remove_weight_norm(module.conv)
    assert_computes(imported(tmp_path, module.state_dict(), ["weight_norm"]), module)


def test_parts_that_fit_no_layer_are_no_weight(tmp_path):
    state = voice("old weight_norm").state_dict()
    state["conv.weight_g"] = torch.ones(2, 1, 1)
    with pytest.raises(SourceError, match=r"lacks conv\.weight; Voice has no conv\.weight_g, conv\.weight_v"):
        imported(tmp_path, state)


def in_front(prefix):
    return lambda state: {prefix + key: value for key, value in state.items()}


WRAPPED = {
    "DataParallel": in_front("module."),
    "torch.compile": in_front("_orig_mod."),
    "compiled, then in parallel": in_front("module._orig_mod."),
    "Lightning": lambda state: {
        "state_dict": in_front("model.")(state),
        "hyper_parameters": {"lr": 0.1, "classes": 5, "betas": (0.9, 0.99)},
        "epoch": 3,
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}],
    },
    "Lightning net": lambda state: {"state_dict": in_front("net.")(state), "hyper_parameters": {}},
    "any prefix": in_front("student.backbone."),
    "parts compiled": lambda state: {key.replace("conv.", "conv._orig_mod."): value for key, value in state.items()},
    "parts in parallel": lambda state: {key.replace("fc.", "fc.module."): value for key, value in state.items()},
    "BatchNorm of 0.4.0": lambda state: {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_wrappers_leave_the_same_model(tmp_path, form):
    module = network("Net")
    torch.save(WRAPPED[form](module.state_dict()), tmp_path / "net.pt")
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", "1,3,16,16", network_name="Net")
    assert_computes(hub, module)
    assert hub.decisions == []


def test_hyper_parameters_of_the_file_are_told_where_the_network_does_not_fit(tmp_path):
    content = {
        "state_dict": in_front("model.")(network("Net", classes=9).state_dict()),
        "hyper_parameters": {"classes": 9},
    }
    torch.save(content, tmp_path / "net.pt")
    for name in ("Net", "make_net"):
        with pytest.raises((ParameterError, SourceError), match="its hyper_parameters are classes: 9"):
            import_file(tmp_path / "net.pt", tmp_path / "hub", "1,3,16,16", network_name=name)
    arguments = {"network_name": "make_net", "network_args": content["hyper_parameters"]}
    hub = import_file(tmp_path / "net.pt", tmp_path / "hub", "1,3,16,16", **arguments)
    assert hub.outputs[0].shape == (None, 9)


def parallel():
    return torch.nn.DataParallel(Voice())


def compiled():
    return torch.compile(Voice())


@pytest.mark.parametrize("factory", ["parallel", "compiled"])
def test_wrapper_around_the_module_is_taken_off(tmp_path, factory):
    assert_computes(imported(tmp_path, voice().state_dict(), network=factory), voice())


def test_entries_without_use_are_said_and_change_nothing(tmp_path):
    state = {**voice().state_dict(), "total_ops": torch.zeros(1), "loss.weight": torch.ones(4)}
    hub = imported(tmp_path, state)
    assert_computes(hub, voice())
    assert hub.decisions == ["entries of the file without use: total_ops, loss.weight"]
    assert any("no use for these entries of the file: total_ops, loss.weight" in note for note in hub.notes)


def test_missing_entries_need_strict_false(tmp_path):
    state = voice().state_dict()
    del state["fc.weight"], state["up.bias"]
    with pytest.raises(SourceError, match=r"lacks up\.bias, fc\.weight; .*strict: false") as caught:
        imported(tmp_path, state)
    assert "Voice has no" not in str(caught.value)
    first = imported(tmp_path, state, strict=False)
    assert first.decisions == ["not in the file: up.bias, fc.weight"]
    assert any("the file lacks up.bias, fc.weight: their values are those" in note for note in first.notes)
    own = first.reference()[0].outputs[0]
    np.testing.assert_array_equal(imported(tmp_path, state, strict=False).reference()[0].outputs[0], own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {**state, "fc.weight": torch.zeros(7, 4)}, r"fc.weight is \[7, 4\] in the file"),
        (lambda state: {f"other.{at}": value for at, value in enumerate(state.values())}, "lacks conv.weight"),
        (lambda state: {**state, "fc.weight": torch.ones(2, 4, dtype=torch.int8)}, "fc.weight is int8 in the file"),
        (
            lambda state: {**state, "fc.weight": torch.ones(2, 4).to(torch.float8_e4m3fn)},
            "is float8_e4m3fn in the file",
        ),
    ],
)
def test_what_strict_false_does_not_allow(tmp_path, change, message):
    for strict in (True, False):
        with pytest.raises(SourceError, match=message) as caught:
            imported(tmp_path, change(voice().state_dict()), strict=strict)
    assert "strict: false" not in str(caught.value)


def test_several_prefixes_that_fit_are_asked_about_and_the_answer_works(tmp_path):
    torch.manual_seed(3)
    other = Voice().eval()
    state = {**in_front("model.")(voice().state_dict()), **in_front("ema_model.")(other.state_dict())}
    for content, names in (
        (state, ["model", "ema_model"]),
        ({"state_dict": state}, ["state_dict.model", "state_dict.ema_model"]),
    ):
        with pytest.raises(ParameterError, match=f"write state_dict_key, one of {', '.join(names)}"):
            imported(tmp_path, content)
        for name, module in zip(names, (voice(), other), strict=True):
            hub = imported(tmp_path, content, state_dict_key=name)
            assert_computes(hub, module)
            assert hub.decisions == []


def test_equal_prefixes_need_no_answer(tmp_path):
    state = {**in_front("a.")(voice().state_dict()), **in_front("b.")(voice().state_dict())}
    assert_computes(imported(tmp_path, state), voice())


def test_averages_beside_the_weights_are_never_taken_silently(tmp_path):
    torch.manual_seed(3)
    average = torch.optim.swa_utils.AveragedModel(Voice()).eval()
    for name in ("ema", "model_ema", "params_ema", "state_dict_ema"):
        content = {"model": voice().state_dict(), name: average.state_dict()}
        with pytest.raises(ParameterError, match=f"one of model, {name}"):
            imported(tmp_path, content)
        assert_computes(imported(tmp_path, content, state_dict_key=name), average.module)
    # Beside names of the module's own, they are what is left over, and said.
    hub = imported(tmp_path, {**voice().state_dict(), **in_front("ema.")(average.module.state_dict())})
    assert_computes(hub, voice())
    assert hub.decisions[0].startswith("entries of the file without use: ema.conv.weight")
