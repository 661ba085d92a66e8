"""Sources and targets that lie elsewhere: s3://bucket/key, and sources at http:// and https://, by Snakemake's storage plugins.

A source is fetched to sources/{scheme}/{rest of its address} first (rule fetch); everything after that sees a local file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converter import formats
from converter.errors import SourceError
from converter.installation import how_to_install
from converter.planning.storage_limits import refuse_size, with_limits

__all__ = ["MIRROR", "Found", "Storage", "is_mirror", "is_remote", "mirror", "url_of"]

MIRROR = "sources/"
_SCHEMES = ("s3", "http", "https")
_PLUGINS = {"s3": "snakemake-storage-plugin-s3", "http": "snakemake-storage-plugin-http"}


def is_remote(path: str) -> bool:
    """Whether the path is an address that a storage plugin serves (s3://, http://, https://)."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme in _SCHEMES


def mirror(url: str) -> str:
    """Where a source is fetched to. Raises SourceError for an address that does not name one file or directory plainly."""
    scheme, _, rest = url.partition("://")
    parts = rest.rstrip("/").split("/")
    if any(sign in rest for sign in "?#{}") or len(parts) < 2 or not all(parts) or ".." in parts or "." in parts:
        raise SourceError(
            f"{url} is no plain address: write {scheme}://host-or-bucket/path, without ?, #, braces and empty parts"
        )
    return f"{MIRROR}{scheme}/{'/'.join(parts)}"


def is_mirror(path: str) -> bool:
    """Whether the path lies where sources of addresses are kept on this machine."""
    return path.startswith(tuple(f"{MIRROR}{scheme}/" for scheme in _SCHEMES))


def url_of(path: str) -> str:
    """The address of a path that `mirror` gave."""
    scheme, _, rest = path.removeprefix(MIRROR).partition("/")
    return f"{scheme}://{rest}"


@dataclass(frozen=True)
class Found:
    """What the storage says of a source: bytes, and when it was last written (seconds since the epoch, 0 where unknown)."""

    bytes: int
    modified: float


class Storage:
    """`registry`: Snakemake's global `storage`. `offline`: look at what was fetched only (on a cluster's node)."""

    def __init__(self, registry: Callable[[str], Any], offline: bool = False) -> None:
        self._registry = registry
        self._offline = offline
        self._found: dict[str, Found] = {}

    def object(self, url: str) -> str:
        """`url` as an input or output of a rule. Raises SourceError where the plugin for it is not installed."""
        return self._flagged(url)

    def _flagged(self, url: str) -> Any:
        """A string of Snakemake's, whose flags have no types."""
        from snakemake_interface_common.exceptions import WorkflowError

        try:
            flagged = self._registry(url)
        except WorkflowError as error:
            plugin = _PLUGINS["s3" if url.startswith("s3:") else "http"]
            raise SourceError(f"{url}: {plugin} is needed: {how_to_install('cluster')}") from error
        found: object = flagged.flags["storage_object"]
        with_limits(type(found), mirror)
        return flagged

    def look(self, url: str) -> Found:
        """Raises SourceError where there is nothing at `url`, or no answer, or no source that could be fetched."""
        if url not in self._found:
            self._found[url] = self._look(url)
        return self._found[url]

    def _look(self, url: str) -> Found:
        suffix, known = os.path.splitext(url)[1], formats.extensions_of_sources()
        if suffix == ".meta":
            raise SourceError(
                f"{url}: a checkpoint is several files: fetch them yourself, or give a SavedModel directory"
            )
        if suffix not in known and not url.startswith("s3:"):
            raise SourceError(f"{url} is of no known format: at http(s) addresses lie single files, {', '.join(known)}")
        path = mirror(url)
        if self._offline:
            if not os.path.exists(path):
                raise SourceError(f"{url} was not fetched to {path}")
            return Found(0, 0.0)
        found = self._flagged(url).flags["storage_object"]
        try:
            if not found.exists():
                raise SourceError(f"{url} does not exist: correct convert_from, or your access to it")
            if suffix not in known and not found.is_dir():
                raise SourceError(
                    f"{url} is of no known format: write a SavedModel directory or a file: {', '.join(known)}"
                )
            size = int(found.size())
            refuse_size(url, size)
            return Found(size, float(found.mtime()))
        except SourceError:
            raise
        except Exception as error:  # boto's and requests' own: no network, no access, no such host
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise SourceError(f"{url} cannot be reached: {lines[0][:200]}") from error
