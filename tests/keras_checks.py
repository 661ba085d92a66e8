"""Convert a PyTorch module to a Keras file, reopen it in plain Keras, and compare it with the module."""

import keras
import numpy as np
import torch

from converter.torch_to_keras import build_keras_model
from converter.torch_to_keras.save import save

TOLERANCE = 2e-5  # relative to the largest value of each output


class Function(torch.nn.Module):
    """A module around a function of tensors."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        self.parts = torch.nn.ModuleDict(modules)

    def forward(self, x):
        return self.function(x, **self.parts)


def export(module, examples, dynamic=True):
    """The module's program; with `dynamic` the first axis of each input is a batch of any size."""
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in examples) if dynamic else None
    return torch.export.export(module.eval(), examples, dynamic_shapes=shapes)


def flat(outputs):
    return [x for x in torch.utils._pytree.tree_flatten(outputs)[0] if isinstance(x, torch.Tensor)]


def batches(example, dynamic):
    """The example, and with a dynamic batch also one row and three."""
    if not dynamic:
        return [example]
    return [example[:1], example, torch.cat([example, example[:1].flip(-1)])]


def convert(module, examples, path, *, dynamic=True, channels_last=True, names=None):
    """Write the module to `path` and return (conversion, reopened model). Its outputs are compared by `check`."""
    program = export(module, examples, dynamic)
    inputs = list(program.graph_signature.user_inputs)
    with torch.no_grad():
        count = len(flat(module(*examples)))
    conversion = build_keras_model(
        program,
        inputs,
        names or [f"out{i}" for i in range(count)],
        channels_last=channels_last,
        layers_only=path.suffix != ".keras",
    )
    save(conversion.model, path)
    return conversion, keras.saving.load_model(path, compile=False, safe_mode=True)


def run(conversion, model, arrays):
    """Outputs of the reopened model for arrays in PyTorch's layout, in PyTorch's layout."""
    orders_in, orders_out = conversion.input_permutations, conversion.output_permutations
    given = [a.transpose(orders_in.get(t.name, range(a.ndim))) for t, a in zip(model.inputs, arrays, strict=True)]
    results = keras.tree.flatten(model(given if len(given) > 1 else given[0], training=False))
    named = zip(model.output_names, (np.asarray(r) for r in results), strict=True)
    return [a.transpose(np.argsort(orders_out.get(name, range(a.ndim)))) for name, a in named]


def check(module, examples, path, *, dynamic=True, labels=None, **options):
    """Convert, reopen and compare at every batch size; returns (conversion, reopened model).

    Raises AssertionError that names each output which differs, or which hardly varies and so proves nothing.
    """
    conversion, model = convert(module, examples, path, dynamic=dynamic, **options)
    failures = []
    for inputs in zip(*(batches(example, dynamic) for example in examples), strict=True):
        with torch.no_grad():
            expected = [x.numpy() for x in flat(module(*inputs))]
        actual = run(conversion, model, [x.numpy() for x in inputs])
        assert len(expected) == len(actual)
        for index, (a, b) in enumerate(zip(expected, actual, strict=True)):
            problem = _problem(a, b)
            if problem:
                failures.append(f"{labels[index] if labels else index} at batch {len(inputs[0])}: {problem}")
    assert not failures, "\n".join(failures)
    return conversion, model


def _problem(expected, actual):
    if (expected.shape, expected.dtype) != (actual.shape, actual.dtype):
        return f"{actual.dtype}{actual.shape} instead of {expected.dtype}{expected.shape}"
    if expected.size > 1 and np.ptp(expected.astype(float)) == 0:
        return "does not vary"
    if expected.dtype.kind not in "f":
        return None if np.array_equal(expected, actual) else "differs"
    allowed = TOLERANCE * max(np.abs(expected).max(), 1e-6)
    worst = np.abs(expected - actual).max()
    return None if worst <= allowed else f"differs by {worst:.3g}, allowed {allowed:.3g}"


def check_each(functions, example, path, **options):
    """One module whose outputs are those of each of `functions` (by name), checked together."""
    modules = {name: f for name, f in functions.items() if isinstance(f, torch.nn.Module)}

    def all_of(x, **parts):
        return tuple((parts[_key(name)] if name in modules else f)(x) for name, f in functions.items())

    module = Function(all_of, **{_key(name): module for name, module in modules.items()})
    return check(module, (example,), path, labels=list(functions), **options)


def _key(name):
    """A name that a ModuleDict takes."""
    return name.replace(".", "_")
