"""What `network_name` names of an installed package, without a script: "timm.create_model", "package.module:factory".

Only packages that an installer put into a folder of packages count. A module of the working folder, or of a folder that
PYTHONPATH names, may lie among a stranger's files; the user names such code as network_script.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import re
import sys
import sysconfig
from importlib.machinery import PathFinder
from types import ModuleType

from converter.errors import ParameterError, nearest

__all__ = ["InstalledNetwork", "distribution_of", "is_dotted", "load_installed"]

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def is_dotted(name: str) -> bool:
    """Whether this may name something in a package."""
    return _NAME.fullmatch(name) is not None


class InstalledNetwork:
    """A module of an installed package, as network_script.build takes it. `path`: what to call it in messages."""

    def __init__(self, module: ModuleType, distribution: importlib.metadata.Distribution) -> None:
        self.module = module
        self.distribution: str = distribution.metadata["Name"]
        self.version: str = distribution.version
        self.path = f"{module.__name__} ({self.distribution} {self.version})"

    def attribute(self, name: str, parameter: str = "network_name") -> object:
        """The class or function `name`, which may be dotted. Raises ParameterError with near names."""
        target: object = self.module
        for part in name.split("."):
            owner, target = target, getattr(target, part, None)
            if target is None:
                callables = [key for key, value in vars(owner).items() if callable(value) and not key.startswith("_")]
                raise ParameterError(f"{parameter}: {self.path} has no {part!r}; {_near(part, callables)}")
        return target


def load_installed(name: str) -> tuple[InstalledNetwork, str]:
    """Import the module in "package.module.factory" or "package.module:factory"; it, and the factory's name in it.

    Raises ParameterError where the package is not installed, or has no such module, or its import fails.
    """
    root = re.split(r"[.:]", name)[0]
    distribution = distribution_of(name)
    if distribution is None:
        raise ParameterError(f"network_name is {name!r}: {_why_not(root)}")
    module, rest = _imported(root, name), []
    before, colon, attribute = name.partition(":")
    for part in before.split(".")[1:]:
        inner = None if rest or not hasattr(module, "__path__") else f"{module.__name__}.{part}"
        own = getattr(module, part, None)
        # Where a package shows a function under the name of its module, the function counts.
        if inner is not None and (own is None or isinstance(own, ModuleType)) and _is_module(module, part):
            module = _imported(inner, name)
        elif colon:
            names = [entry.name for entry in pkgutil.iter_modules(getattr(module, "__path__", []))]
            raise ParameterError(f"network_name: {module.__name__} has no module {part!r}; {_near(part, names)}")
        else:
            rest.append(part)
    return InstalledNetwork(module, distribution), attribute or ".".join(rest) or _no_factory(name)


def distribution_of(name: str) -> importlib.metadata.Distribution | None:
    """The installed distribution that the package in a dotted name comes from; None where none is. Imports nothing."""
    root = re.split(r"[.:]", name)[0]
    spec = PathFinder.find_spec(root)
    if spec is None:
        return None
    places = spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else [])
    folders = {os.path.realpath(os.path.dirname(place)) for place in places}
    here = os.path.realpath(os.getcwd())
    for folder in sorted(folders):
        if not _is_of_packages(folder) and os.path.commonpath([folder, here]) in (folder, here):
            return None
    # What an installer leaves beside a package: the record of its files.
    for distribution in importlib.metadata.distributions(path=sorted(folders)):
        if any(file.parts[:1] in ((root,), (f"{root}.py",)) for file in distribution.files or []):
            return distribution
    return None


def _is_of_packages(folder: str) -> bool:
    own = {os.path.realpath(sysconfig.get_path(key)) for key in ("purelib", "platlib")}
    return folder in own or os.path.basename(folder) in ("site-packages", "dist-packages")


def _is_module(package: ModuleType, name: str) -> bool:
    return any(entry.name == name for entry in pkgutil.iter_modules(package.__path__))


def _imported(module: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (KeyboardInterrupt, MemoryError):
        raise
    except BaseException as error:  # whatever a package does as it is imported
        text = (str(error).strip().splitlines() or [""])[0][:200]
        raise ParameterError(
            f"network_name is {name!r}, and the import of {module} raised {type(error).__name__}: {text}"
        ) from error


def _why_not(root: str) -> str:
    spec = PathFinder.find_spec(root)
    if root in sys.stdlib_module_names:
        return f"{root} is Python's own: write a class or function of an installed package that builds the network"
    if spec is not None:
        place = spec.origin or next(iter(spec.submodule_search_locations or []), root)
        return (
            f"{os.path.relpath(place)} is no installed package: write its file as network_script, and the class or function "
            "in it as network_name"
        )
    names = [entry.name for entry in pkgutil.iter_modules() if not entry.name.startswith("_")]
    close = [other for other in nearest(root, names) if distribution_of(other) is not None]
    hint = f"did you mean {' or '.join(close)}?" if close else f"install {root}, or write network_script"
    return f"no package {root} is installed here; {hint}"


def _near(name: str, names: list[str]) -> str:
    close = nearest(name, names) or sorted(names)[:10]
    return f"it has {', '.join(close)}" if close else "it has none"


def _no_factory(name: str) -> str:
    raise ParameterError(
        f"network_name is {name!r}, which is a module: write the class or function in it, as {name}:build"
    )
