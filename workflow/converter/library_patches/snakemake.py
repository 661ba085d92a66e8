"""What is replaced and overridden in Snakemake (9.27) and its storage plugins (s3 0.3.6, http 0.3.1)."""

from __future__ import annotations

from types import ModuleType

from converter.library_patches.replacing import Patched

__all__ = ["PATHVARS", "keys_of", "requests_of", "retrieving"]

# session.py overrides the first; an override of a name that is gone would never be called.
PATHVARS = (
    Patched("snakemake", "snakemake.pathvars:Pathvars", "apply", ("self", "path")),
    Patched("snakemake", "snakemake.pathvars:Pathvars", "from_other", ("other",)),
)


def retrieving(plugin: type) -> Patched:
    """What fetches an object of a storage plugin's class."""
    return Patched(_package(plugin), plugin, "retrieve_object", ("self",))


def keys_of(plugin: type) -> Patched:
    """What lists the objects below one that is a directory."""
    return Patched(_package(plugin), plugin, "get_subkeys", ("self",))


def requests_of(plugin: type) -> Patched:
    """The module by which a plugin talks to servers."""
    return Patched(_package(plugin), plugin.__module__, "requests", kind=ModuleType)


def _package(plugin: type) -> str:
    return plugin.__module__.partition(".")[0].replace("_", "-")
