"""What a torch.export program may make torch.export.load do without trust: nothing but build a graph of tensor operators.

The loader (torch 2.13) unpickles with `weights_only=False`, evaluates sizes as Python, imports modules that the structure
of the inputs names, compiles and loads native code, and takes any callable below torch (torch.os.system) for an operator.
A look at the archive beforehand cannot know for certain what the loader will find in it: that reads archives by rules of
its own. So the loader's own functions are replaced while it works.
"""

from __future__ import annotations

import enum
import operator
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import BinaryIO

import torch

from converter.errors import UntrustedError
from converter.library_patches.replacing import replaced
from converter.library_patches.torch import PROGRAM_LOADER
from converter.torch.trust.bounds import is_bounded
from converter.torch.trust.names import check_parts, check_program
from converter.torch.trust.pickle_content import check_pickle_content
from converter.torch.trust.size_expressions import is_size_expression
from converter.wording import TRUST

__all__ = ["check_expression", "file_operator", "inert_loading"]

# Operators that read and write files, or the network, by their schemas' names.
_FILE_OPERATORS = re.compile(r"aten::(save|load|from_file)|(debugprims|c10d|symm_mem|image)::\w+")
# Functions of torch that an exported graph calls beside operators: of symbolic sizes, of vmap, and switches of modes.
_FUNCTIONS = re.compile(
    r"torch\.(_?sym_\w+|_functorch\.predispatch\.\w+|_C\._set_grad_enabled|amp\.autocast_mode\._(enter|exit)_autocast)"
)


def check_expression(path: Path, text: str) -> None:
    """Raise UntrustedError unless it is an expression of sizes: sympy evaluates it as Python."""
    if not is_size_expression(text):
        raise UntrustedError(f"{path} contains Python in place of a size ({text[:80]!r}); {TRUST}")


def file_operator(name: str) -> bool:
    """Whether the operator of a schema's name ("aten::from_file") reaches beyond the model."""
    return _FILE_OPERATORS.fullmatch(name) is not None


@contextmanager
def inert_loading(path: Path) -> Iterator[None]:
    """Inside, torch.export.load runs nothing that the file names. Raises UntrustedError, also where the loader swallowed it.

    Raises UnsupportedError where torch's loader is not as it is known here.
    """
    refusals: list[UntrustedError] = []

    def refuse(what: str) -> None:
        refusals.append(UntrustedError(f"{path} {what}; {TRUST}"))
        raise refusals[-1]

    load, parse, resolve, read_program, read_artifact = (
        PROGRAM_LOADER[name].find()[1] for name in ("load", "expressions", "operators", "program", "artifact")
    )

    def load_weights(stream: BinaryIO, *args: object, **options: object) -> object:
        noting(_check_content, stream)
        try:
            return load(stream, *args, **{**options, "weights_only": True})
        except Exception as error:
            if "weights_only" in str(error).lower() or "Weights only" in str(error):
                refuse(f"contains a pickle of more than tensors ({_reason(error)})")
            raise

    def parse_expression(self: object, expression: object, *args: object) -> object:
        if isinstance(expression, str):
            noting(check_expression, expression)
        return parse(self, expression, *args)

    def find_operator(self: object, name: str) -> object:
        target = resolve(self, name)
        if not (isinstance(target, str) or _is_operator(target, name)):
            refuse(f"calls {name}, which is no operator of tensors")
        return target

    def import_module(name: str) -> object:
        """Of the function that makes a defaultdict's new values."""
        if name != "builtins":
            refuse(f"names the module {name} in the structure of its inputs or outputs")
        return SimpleNamespace(**{kind.__name__: kind for kind in (list, dict, set, tuple, int, float, str, bool)})

    def find_member(item: dict) -> object:
        """Of an enumeration, as a key; torch looks for it in any object of any module, such as os.environ."""
        if "__enum__" not in item:
            return item
        module, _, names = str(item["fqn"]).partition(":")
        if module not in sys.modules:
            refuse(f"names the module {module} in the structure of its inputs or outputs")
        found = sys.modules[module]
        for name in names.split("."):
            found = vars(found).get(name) if isinstance(found, type | ModuleType) else None
        if not (isinstance(found, type) and issubclass(found, enum.Enum)):
            refuse(f"names {item['fqn']}, which is no enumeration, in the structure of its inputs or outputs")
        return found[item["name"]]

    def noting(check: Callable[..., None], *args: object) -> None:
        try:
            check(path, *args)
        except UntrustedError as error:
            refusals.append(error)
            raise

    def check_names(self: object, program: object, *args: object, **options: object) -> object:
        noting(check_program, program)
        return read_program(self, program, *args, **options)

    def check_keys(serialized: object) -> object:
        """Of the weights and the constants, which stand in files of their own."""
        artifact = read_artifact(serialized)
        if isinstance(artifact, dict):
            noting(check_parts, artifact)
        return artifact

    def never(what: str) -> Callable[..., None]:
        return lambda *args, **options: refuse(what)

    replacements = {
        "load": load_weights,
        "package pickle": SimpleNamespace(loads=never("contains pickled objects")),
        "native pickle": never("contains pickled objects"),
        "native code": never("contains compiled code"),
        "importlib": SimpleNamespace(import_module=import_module),
        "enumerations": find_member,
        "expressions": parse_expression,
        "operators": find_operator,
        "program": check_names,
        "artifact": check_keys,
    }
    with replaced(*((PROGRAM_LOADER[name], replacement) for name, replacement in replacements.items())):
        try:
            yield
        except Exception:
            if refusals:
                raise refusals[0] from None
            raise
    if refusals:
        raise refusals[0]


def _check_content(path: Path, stream: BinaryIO) -> None:
    """Raise UntrustedError where a pickle in the archive makes tensors anew, whose values are not in the file."""
    content = stream.read()
    stream.seek(0)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        check_pickle_content(Path(file.name), content.startswith(b"PK\x03\x04"), trusted=False, called=path)


def _is_operator(target: object, name: str) -> bool:
    if isinstance(target, torch._ops.OpOverload):
        return is_bounded(target._schema.name) and not file_operator(target._schema.name)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return True
    if name.startswith(("_operator.", "math.")):
        # attrgetter and the like are classes of the module operator.
        return getattr(target, "__module__", "") in ("_operator", "math") and target is not operator.call
    return _FUNCTIONS.fullmatch(name) is not None


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), lines[0] if lines else "")
    return named[:200]
