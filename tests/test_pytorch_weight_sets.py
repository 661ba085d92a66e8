"""PyTorch files with several sets of weights or several modules: the one that fits is taken and said, two are asked about."""

import numpy as np
import pytest
import pytorch_networks
import torch
from pytorch_hub import import_file, network

from converter.errors import ParameterError, SourceError


def state(seed, **arguments):
    """Of a Net with weights of its own."""
    torch.manual_seed(seed)
    return pytorch_networks.vary(network("Net", **arguments), seed).state_dict()


def imported(folder, content, **parameters):
    torch.save(content, folder / "net.pt")
    parameters.setdefault("network_name", "Net")
    return import_file(folder / "net.pt", folder / "hub", "1,3,16,16", **parameters)


def assert_has_weights(hub, values):
    module = network("Net")
    module.load_state_dict(values)
    run = hub.reference()[0]
    with torch.no_grad():
        expected = module(torch.from_numpy(run.inputs[0])).numpy()
    np.testing.assert_allclose(run.outputs[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "names",
    [
        ("params", "params_ema"),
        ("model", "ema"),
        ("state_dict", "model_state_dict"),
        ("model", "ema.shadow"),
        ("nets.student", "nets.teacher"),
    ],
)
def test_two_sets_that_fit_are_asked_about_and_the_answer_works(tmp_path, names):
    content: dict = {"epoch": 3}
    for seed, name in enumerate(names, start=1):
        entry = content
        *path, leaf = name.split(".")
        for part in path:
            entry = entry.setdefault(part, {})
        entry[leaf] = state(seed)
    with pytest.raises(ParameterError) as caught:
        imported(tmp_path, content)
    assert "sets of weights that fit Net" in str(caught.value)
    advice = str(caught.value).rpartition("write state_dict_key, one of ")[2]
    assert set(advice.split(", ")) == set(names)
    for seed, name in enumerate(names, start=1):
        hub = imported(tmp_path, content, state_dict_key=name)
        assert_has_weights(hub, state(seed))
        assert hub.decisions == []  # the user's own


def test_prefixes_make_no_difference_to_what_fits(tmp_path):
    wrapped = {f"module.{key}": value for key, value in state(2).items()}
    with pytest.raises(ParameterError, match="one of state_dict, averaged"):
        imported(tmp_path, {"state_dict": state(1), "averaged": wrapped})


def test_only_one_that_fits_is_taken_and_said(tmp_path):
    """A usual name does not decide: the network does."""
    content = {"generator": state(1, classes=7), "discriminator": state(2), "stats": {"mean": torch.zeros(3)}}
    hub = imported(tmp_path, content)
    assert_has_weights(hub, state(2))
    assert hub.decisions == ["weights: discriminator of generator, discriminator, stats"]
    assert any("those of discriminator" in note and "generator, stats" in note for note in hub.notes)


def test_equal_sets_need_no_answer(tmp_path):
    hub = imported(tmp_path, {"model": state(1), "best": state(1)})
    assert_has_weights(hub, state(1))
    assert hub.decisions == ["weights: model of model, best"]


def test_one_set_is_no_decision(tmp_path):
    content = {"state_dict": state(1), "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "lr": 0.1}}
    assert imported(tmp_path, content).decisions == []


def test_where_none_fits_the_others_are_named(tmp_path):
    content = {"model": state(1, classes=7), "ema": state(2, classes=7)}
    with pytest.raises(SourceError, match=r"fc.weight is \[7, 128\] in the file.*as state_dict_key: model, ema"):
        imported(tmp_path, content)


def test_several_modules_are_asked_about(tmp_path):
    content = {"generator": network("Net"), "discriminator": network("UNet"), "epoch": 3}
    with pytest.raises(
        ParameterError, match="several modules .*: write state_dict_key, one of generator, discriminator"
    ):
        imported(tmp_path, content, network_name=None)
    hub = imported(tmp_path, content, network_name=None, state_dict_key="discriminator")
    assert hub.extra["module"] == "UNet"


def test_network_name_chooses_among_modules(tmp_path):
    content = {"generator": network("UNet"), "discriminator": network("Net")}
    hub = imported(tmp_path, content)
    assert hub.extra["module"] == "Net"
    assert hub.decisions == ["model: discriminator of generator, discriminator"]


def test_module_and_weights_of_other_values_are_asked_about(tmp_path):
    with pytest.raises(ParameterError, match="one of model, ema"):
        imported(tmp_path, {"model": network("Net"), "ema": state(2)}, network_name=None)
    same = {"model": network("Net"), "state_dict": network("Net").state_dict()}
    hub = imported(tmp_path, same, network_name=None)
    assert hub.decisions == ["model: model of state_dict, model"]


def test_network_name_of_another_class_than_the_module_is_no_answer(tmp_path):
    with pytest.raises(ParameterError, match="network_name is UNet, but .* holds a whole Net: leave network_name out"):
        imported(tmp_path, network("Net"), network_name="UNet")
    parallel = torch.nn.DataParallel(network("Net"))
    assert imported(tmp_path, parallel).extra["module"] == "Net"


def test_fixed_batch_and_kept_control_flow_are_decisions(tmp_path):
    for name, shape, decision in (
        ("FixedBatch", "1,4,2", "batch fixed at 1"),
        ("Branches", "1,4", "kept as TorchScript"),
    ):
        torch.save(network(name), tmp_path / "net.pt")
        assert import_file(tmp_path / "net.pt", tmp_path / "hub", shape).decisions == [decision]
