"""Whole networks as Keras models: recurrent, attention, image, several inputs; what a user finds inside the file."""

import keras
import numpy as np
import pytest
import pytorch_networks
import torch
from keras_checks import Function, check, check_each, convert, export
from pytorch_networks import vary
from special_hubs import export_to, program_hub
from torch import nn
from torch.nn import functional as F

from converter.errors import UnsupportedError
from converter.torch_to_keras import build_keras_model

torch.manual_seed(0)
STEPS = torch.randn(2, 7, 8)
BOTH = pytest.mark.parametrize("suffix", [".keras", ".h5"])


def kinds(model):
    return {type(layer).__name__ for layer in model.layers}


class Classifier(nn.Module):
    """Recurrent layers, then a Linear on the last output or on the last states."""

    def __init__(self, cls, reads, **options):
        super().__init__()
        self.rnn = cls(8, 6, batch_first=True, **options)
        self.reads = reads
        self.head = nn.Linear(12 if options.get("bidirectional") else 6, 3)

    def forward(self, x):
        output, state = self.rnn(x)
        if self.reads == "output":
            return self.head(output[:, -1])
        state = state[0] if isinstance(state, tuple) else state
        return self.head(torch.cat([state[-2], state[-1]], 1) if self.rnn.bidirectional else state[-1])


@BOTH
@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU])
def test_recurrent_classifiers(tmp_path, cls, suffix):
    for index, (reads, options) in enumerate(
        [
            ("output", {}),
            ("state", {"num_layers": 2, "dropout": 0.2}),
            ("state", {"num_layers": 2, "bidirectional": True}),
            ("output", {"bias": False, "bidirectional": True}),
        ]
    ):
        module = Classifier(cls, reads, **options)
        _, model = check(module, (STEPS,), tmp_path / f"{index}{suffix}")
        assert cls.__name__ in kinds(model) or "Bidirectional" in kinds(model)
        assert not [x for x in model.operations if isinstance(x, keras.Operation) and "einsum" in x.name]


@pytest.mark.parametrize("cls", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_outputs_and_states(tmp_path, cls):
    check(cls(8, 5, 2, batch_first=True, bidirectional=True), (STEPS,), tmp_path / "first.keras")
    check(cls(8, 5), (STEPS,), tmp_path / "second.keras", dynamic=False)


def test_states_as_inputs(tmp_path):
    class Stepper(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(8, 5, 2, batch_first=True)

        def forward(self, x, h, c):
            output, (h, c) = self.rnn(x, (h, c))
            return output, h, c

    states = torch.randn(2, 2, 5), torch.randn(2, 2, 5)
    check(Stepper(), (STEPS, *states), tmp_path / "m.keras", dynamic=False)


@BOTH
def test_transformer_encoder(tmp_path, suffix):
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), 2)
    _, model = check(vary(encoder), (STEPS,), tmp_path / f"m{suffix}")
    assert {"Dense", "LayerNormalization", "Add"} <= kinds(model)
    assert ({"Dot", "Softmax"} <= kinds(model)) == (suffix == ".h5")
    # What PyTorch's attention permutes and merges on the way is undone: no data moves.
    moving = [x for x in model.operations if "transpose" in x.name or isinstance(x, keras.layers.Permute)]
    assert not moving


def test_attention_variants(tmp_path):
    class Attention(nn.Module):
        def __init__(self, weights, **options):
            super().__init__()
            self.attention, self.weights = nn.MultiheadAttention(8, 2, **options), weights

        def forward(self, x):
            output, weights = self.attention(x, x, x, need_weights=self.weights)
            return (output, weights) if self.weights else output

    check(Attention(True, batch_first=True), (STEPS,), tmp_path / "weights.keras")
    check(Attention(False), (STEPS,), tmp_path / "sequence first.keras", dynamic=False)
    heads = torch.randn(2, 3, 6, 4)
    mask = torch.rand(6, 6) > 0.3
    mask.fill_diagonal_(True)
    functions = {
        "plain": lambda x: F.scaled_dot_product_attention(x, x * 2, x + 1),
        "causal": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3),
        "boolean mask": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask),
        "added mask": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.arange(36.0).view(6, 6) / 9),
    }
    check_each(functions, heads, tmp_path / "sdpa.keras")
    for name, function in functions.items():
        check(Function(function), (heads,), tmp_path / f"{name}.h5")
    check(nn.Transformer(8, 2, 1, 1, 16, batch_first=True), (STEPS, STEPS * 2), tmp_path / "both.keras")


def test_tokens_positions_class_token_and_causal_mask(tmp_path):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(11, 8)
            self.positions = nn.Parameter(torch.randn(1, 7, 8))
            self.token = nn.Parameter(torch.randn(1, 1, 8))
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, ids):
            x = self.embedding(ids) + self.positions[:, : ids.shape[1]]
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
            mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.head(self.layer(x, mask))

    _, model = check(Model(), (torch.randint(0, 11, (2, 7)),), tmp_path / "m.keras")
    assert model.inputs[0].dtype == "int64"
    # Positions and class token can be trained: they are weights, not numbers in the graph.
    assert [model.get_layer(name).trainable_weights != [] for name in ("positions", "token")] == [True, True]


@BOTH
@pytest.mark.parametrize("name", ["UNet", "Pieces", "Net"])
def test_image_networks(tmp_path, name, suffix):
    module = vary(getattr(pytorch_networks, name)())
    size = 9 if name == "Pieces" else 16
    conversion, model = check(module, (torch.randn(2, 3, size, size),), tmp_path / f"m{suffix}")
    assert model.input_shape == (None, size, size, 3)
    assert list(conversion.input_permutations.values()) == [(0, 2, 3, 1)]
    if name != "Pieces":  # a PixelShuffle is a permutation
        assert "Permute" not in kinds(model)


def test_image_of_any_size(tmp_path):
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Upsample(scale_factor=4))
    head = nn.Sequential(module, nn.Conv2d(4, 5, 1))
    dims = {0: torch.export.Dim("n"), 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    x = torch.randn(2, 3, 16, 24)
    program = torch.export.export(vary(head).eval(), (x,), dynamic_shapes=(dims,))
    model = build_keras_model(program, ["x"], ["y"]).model
    assert model.input_shape == (None, None, None, 3)
    for size in ((2, 3, 16, 24), (1, 3, 32, 16)):
        x = torch.randn(size)
        expected = head(x).detach().permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(np.asarray(model(x.permute(0, 2, 3, 1).numpy())), expected, atol=1e-5)


def test_several_inputs_and_named_outputs(tmp_path):
    module = vary(pytorch_networks.TwoInputs())
    example = torch.randn(2, 4), torch.randn(2, 6)
    _, model = check(module, example, tmp_path / "m.keras", names=["sum", "scaled"])
    assert [tensor.name for tensor in model.inputs] == ["left", "right"]
    assert model.output_names == ["sum", "scaled"]


@BOTH
def test_parameters_are_weights_of_layers(tmp_path, suffix):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.randn(8, 1, 1))
            self.shift = nn.Parameter(torch.randn(1, 8, 6, 6))
            self.columns = nn.Parameter(torch.randn(6))
            self.one = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return (self.one(F.relu(self.one(x))) * self.scale + self.shift) * self.columns

    module = Model()
    _, model = check(module, (torch.randn(2, 8, 6, 6),), tmp_path / f"m{suffix}")
    names = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert names == {"one", "scale", "shift", "columns"}
    # A module that is called twice is one layer.
    assert len([layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]) == 1


def test_the_model_can_be_trained(tmp_path):
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8, momentum=0.3),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.Conv2d(8, 8, 3, groups=8, dilation=2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(8 * 4 * 4, 5),
    )
    _, model = check(vary(module), (torch.randn(2, 3, 10, 10),), tmp_path / "m.keras")
    dropout = next(layer for layer in model.layers if isinstance(layer, keras.layers.Dropout))
    normalization = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
    assert (dropout.rate, normalization.momentum) == (0.25, pytest.approx(0.7))
    assert sum(np.prod(w.shape) for w in model.trainable_weights) == sum(p.numel() for p in module.parameters())
    before = [weight.numpy() for weight in model.trainable_weights]
    model.compile("sgd", "mse")
    model.fit(np.random.default_rng(0).normal(size=(4, 10, 10, 3)).astype("float32"), np.ones((4, 5)), verbose=0)
    assert all(not np.array_equal(a, b.numpy()) for a, b in zip(before, model.trainable_weights, strict=True))


def test_names_are_those_of_the_modules_and_the_same_each_time(tmp_path):
    module = nn.Sequential()
    module.add_module("stem", nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    module.add_module("head", nn.Linear(8, 2))
    example = (torch.randn(2, 3, 10, 10),)
    for suffix in (".keras", ".h5"):
        _, model = convert(vary(module), example, tmp_path / f"a{suffix}")
        convert(module, example, tmp_path / f"b{suffix}")
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
        assert {"stem_0", "stem_1", "stem_2", "head", "out0"} <= {layer.name for layer in model.layers}


def test_what_a_module_overwrites_is_seen_where_it_is_seen(tmp_path):
    def through_a_view(x):
        doubled = x * 2
        doubled.view(-1, 56).relu_()
        return doubled + x

    def copied_before(x):
        doubled = x * 2
        kept = doubled + 1
        doubled.relu_()
        return doubled + kept * 3

    check_each({"view": through_a_view, "copy": copied_before}, STEPS, tmp_path / "m.keras")


def test_a_program_that_is_decomposed_already(tmp_path):
    module = vary(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.Hardswish(),
            nn.MaxPool2d(3, 2, 1),
            nn.ConvTranspose2d(4, 6, 2, 2),
            nn.GroupNorm(2, 6),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.LayerNorm(24),
            nn.Linear(24, 5),
        )
    )
    x = torch.randn(2, 3, 16, 16)
    program = export(module, (x,)).run_decompositions()
    model = build_keras_model(program, ["x"], ["y"]).model
    actual = np.asarray(model(x.permute(0, 2, 3, 1).numpy()))
    np.testing.assert_allclose(actual, module(x).detach().numpy(), atol=2e-5)
    assert {"Conv2D", "BatchNormalization", "Conv2DTranspose", "Dense"} <= kinds(model)


def test_an_unsupported_operator_is_named_with_its_place(tmp_path):
    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x).abs()

    module = nn.Sequential()
    module.add_module("spectrum", Spectrum())
    with pytest.raises(UnsupportedError, match=r"aten\._fft_r2c.* in module spectrum \(test_.*line \d+: .*torch\.fft"):
        convert(module, (STEPS,), tmp_path / "m.keras")


def test_an_hdf5_file_refuses_what_it_cannot_hold(tmp_path):
    module = Function(lambda x: torch.sort(x, -1)[0])
    convert(module, (STEPS,), tmp_path / "m.keras")
    with pytest.raises(UnsupportedError, match=r"aten\.sort.*convert to \.keras"):
        convert(module, (STEPS,), tmp_path / "m.h5")


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_dropout_of_whole_channels_stays_for_training(tmp_path, dims):
    """Its layers' constructors take fewer arguments than those of other layers."""
    parts = {
        1: (torch.nn.Conv1d, torch.nn.Dropout1d),
        2: (torch.nn.Conv2d, torch.nn.Dropout2d),
        3: (torch.nn.Conv3d, torch.nn.Dropout3d),
    }
    convolution, dropout = parts[dims]
    torch.manual_seed(0)
    module = torch.nn.Sequential(convolution(3, 4, 2), dropout(0.3), convolution(4, 2, 2))
    array = np.random.default_rng(0).normal(size=(2, 3, *[5] * dims)).astype(np.float32)
    hub = program_hub(tmp_path / "hub", module, {"typical": [array], "other": [array[:1] - 1]}, shared_batch=True)
    result = export_to(hub, "keras", tmp_path)
    assert result.verification.passed, result.verification.message
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert [
        layer.rate for layer in model.layers if isinstance(layer, getattr(keras.layers, f"SpatialDropout{dims}D"))
    ] == [0.3]
