"""The user's `network_script`: load the Python file by its path, and build what `network_name` names in it.

The script is the user's own code and runs as such (user_code.py); it can import the modules beside it.
"""

from __future__ import annotations

import enum
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from converter.errors import ParameterError, nearest
from converter.importing.numpy_aliases import lend_old_names
from converter.importing.user_code import is_users, load_file

if TYPE_CHECKING:
    from converter.importing.installed import InstalledNetwork

__all__ = ["NetworkScript", "build", "load_script"]


_NETWORK = ("torch.nn.modules.module", "Module")


class NetworkScript:
    """A loaded script. `module` is the script, `siblings` the modules beside it that it imported."""

    def __init__(self, path: Path, module: ModuleType, siblings: Sequence[ModuleType]) -> None:
        self.path, self.module, self.siblings = path, module, list(siblings)

    def classes(self) -> dict[str, type]:
        """Classes by the full names under which a pickle may record them, and by their bare names.

        A bare name stands for the script's own class or one that it imported by name; a full name for a sibling's. Of
        imported ones only the user's, modules of networks and enumerations: a pickle calls them with what it likes, and
        subprocess.Popen is a class too.
        """
        found = {}
        for module in self.siblings:
            for name, value in vars(module).items():
                if inspect.isclass(value) and value.__module__ == module.__name__:
                    found[f"{module.__name__}.{name}"] = value
        own = {name: value for name, value in vars(self.module).items() if inspect.isclass(value)}
        return found | {name: value for name, value in own.items() if self._is_of_a_model(value)}

    def _is_of_a_model(self, kind: type) -> bool:
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)
        if kind.__module__ == self.module.__name__ or (file is not None and is_users(file)):
            return True
        is_network = any((base.__module__, base.__name__) == _NETWORK for base in kind.__mro__)
        return is_network or issubclass(kind, enum.Enum)

    def attribute(self, name: str, parameter: str = "network_name") -> object:
        """The class or function `name`. Raises ParameterError with close matches."""
        target: object = self.module
        for part in name.split("."):
            target = getattr(target, part, None)
            if target is None:
                own = [key for key, value in vars(self.module).items() if callable(value) and not key.startswith("_")]
                close = nearest(name, own) or sorted(own)[:10]
                raise ParameterError(
                    f"{parameter}: {self.path} defines no {name!r}; "
                    + (f"it has {', '.join(close)}" if close else "it defines no class and no function")
                )
        return target


def load_script(path: Path, parameter: str = "network_script") -> NetworkScript:
    """Run the script and return it. Raises ParameterError, in one sentence, when there is no such file or it raises.

    `parameter` named it. A script in any file runs, whatever its suffix: original job lists name some without one.
    """
    path = Path(path)
    if not path.is_file():
        hint = "" if path.suffix == ".py" else "; write the path of a Python file"
        raise ParameterError(f"{parameter}: there is no file {path}{hint}")
    lend_old_names()
    before = set(sys.modules)
    try:
        module = load_file(str(path))
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # also SystemExit: a script without a main guard may end the program
        raise ParameterError(f"{parameter}: {path} raised {_where(error, path)}") from error
    folder = path.resolve().parents[module.__name__.count(".")]  # that of its package, for a member of one
    loaded = [sys.modules[key] for key in sorted(sys.modules.keys() - before - {module.__name__})]
    return NetworkScript(path, module, [module for module in loaded if _is_beside(module, folder)])


def _is_beside(module: ModuleType, directory: Path) -> bool:
    """Whether a module lies in or below the script's directory, environments there not counted."""
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).resolve().is_relative_to(directory):
        return False
    return not {"site-packages", "dist-packages"} & set(Path(file).resolve().parts)


def build(script: NetworkScript | InstalledNetwork, name: str, arguments: Mapping | Sequence | None) -> object:
    """Call the class or factory `name` with `network_args`. Raises ParameterError for arguments that do not fit."""
    target = script.attribute(name)
    if not callable(target):
        return target
    args, kwargs = _split(arguments)
    _check_arguments(script, name, target, args, kwargs)
    try:
        return target(*args, **kwargs)
    except Exception as error:
        raise ParameterError(
            f"network_args: {name}({_call_text(args, kwargs)}) of {script.path} raised {_where(error, script.path)}"
        ) from error


def _split(arguments: Mapping | Sequence | None) -> tuple[list, dict]:
    if arguments is None:
        return [], {}
    if isinstance(arguments, Mapping):
        return [], dict(arguments)
    return list(arguments), {}


def _check_arguments(
    script: NetworkScript | InstalledNetwork, name: str, target: Callable, args: list, kwargs: dict
) -> None:
    """Name the argument that is missing or unknown, before the call: its TypeError could come from anywhere within."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return  # a builtin without a signature
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ParameterError(
            f"network_args: {name}{signature} of {script.path} does not take ({_call_text(args, kwargs)}): {error}; "
            'write its arguments as a mapping, such as {"num_classes": 10}, or a list'
        ) from None


def _call_text(args: list, kwargs: dict) -> str:
    parts = [repr(value) for value in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    text = ", ".join(parts)
    return text if len(text) <= 200 else text[:197] + "..."


def _where(error: BaseException, path: Path | str) -> str:
    """ "ValueError: ... (line 12)": the innermost line of the script itself."""
    path = Path(path)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path.absolute()
    ]
    lines += [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.lineno:
        lines = [error.lineno]
    text = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}" + (f": {text}" if text else "") + (f" (line {lines[-1]})" if lines else "")
