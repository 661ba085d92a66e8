"""Whether a file gave every weight of its model a value.

Keras (3.15) leaves out weights that a file does not have where their layers lie in lists of lists, with a warning: "Affected
layers will retain their freshly-initialized weights". Those are numbers of chance, and here not even that, since memory
for weights is not filled (keras_repairs.no_initial_weights): what had lain in it would be published as weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import tensorflow as tf
from tensorflow.python.ops import resource_variable_ops

from converter.errors import SourceError

__all__ = ["Filled", "watched"]


class Filled:
    """The variables that were created while it watched, and those that were given a value before the model was `loaded`."""

    def __init__(self) -> None:
        self.loaded = False
        # Of TensorFlow's, by the id of their handles, which are kept so that no other object takes an id.
        self._created: dict[int, object] = {}
        self._assigned: dict[int, object] = {}
        self._added: list[object] = []

    def refuse_unfilled(self, path: Path, variables: Sequence[tf.Variable], weights: Sequence[object]) -> None:
        """Raise SourceError for a weight among the `variables` that a traced model reads which the file gave no value.

        weights: those that the model itself names, of either Keras; Keras 3 names none of layers in lists of lists. A
        variable that is no weight, as a state or a generator of random numbers has one, lies in no file of Keras's.
        """
        named = {}
        for weight in (*weights, *self._added):
            variable = getattr(weight, "_value", weight)  # Keras 3 has TensorFlow's variable within its own
            if hasattr(variable, "handle"):
                named[id(variable.handle)] = weight
        for variable in variables:
            key = id(variable.handle)
            if key in self._created and key in named and key not in self._assigned:
                name = getattr(named[key], "path", named[key].name)
                raise SourceError(
                    f"{path} has no values for the weight {name} of its model, as files have that a Keras wrote which "
                    "leaves out layers in lists of lists: save the model again with a newer Keras"
                )


@contextmanager
def watched(keras: ModuleType) -> Iterator[Filled]:
    """Watches the variables of a model while it is opened and traced."""
    filled = Filled()
    kind = resource_variable_ops.ResourceVariable
    hooked = [(kind, "__init__"), (kind, "assign")]
    if keras.__name__ == "keras":
        hooked.append((keras.layers.Layer, "add_weight"))
    originals = [getattr(owner, name) for owner, name in hooked]

    @functools.wraps(originals[0])  # who patches it inside of this sees the signature that it knows
    def created(self: resource_variable_ops.ResourceVariable, *args: object, **kwargs: object) -> None:
        originals[0](self, *args, **kwargs)
        filled._created[id(self.handle)] = self.handle

    def assigned(self: resource_variable_ops.ResourceVariable, *args: object, **kwargs: object) -> object:
        if not filled.loaded:
            filled._assigned[id(self.handle)] = self.handle
        return originals[1](self, *args, **kwargs)

    def added(self: object, *args: object, **kwargs: object) -> object:
        weight = originals[2](self, *args, **kwargs)
        filled._added.append(weight)
        return weight

    for (owner, name), hook in zip(hooked, (created, assigned, added), strict=False):
        setattr(owner, name, hook)
    try:
        yield filled
    finally:
        for (owner, name), original in zip(hooked, originals, strict=True):
            setattr(owner, name, original)
