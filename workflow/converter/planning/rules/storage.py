"""What the rules of rules/storage.smk ask: addresses of sources and targets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

from converter import formats
from converter.planning.rules.base import Planned
from converter.planning.storage import MIRROR, is_remote, url_of

__all__ = ["StorageInputs"]


class StorageInputs(Planned):
    """wildcards.path: that of a fetched source below sources/, or of a target behind s3://."""

    def remote_sources(self, directories: bool) -> str:
        """A pattern for what is fetched: SavedModel directories, or files; "" where there are none."""
        config = self.planner.config
        known = formats.extensions_of_sources()
        named = [values.get("convert_from", "") for values in (*config.jobs.values(), *config.models.values())]
        paths = {url for url in named if is_remote(url) and (Path(url).suffix not in known) == directories}
        return "|".join(re.escape(url.rstrip("/").replace("://", "/", 1)) for url in sorted(paths))

    def remote_source(self, wildcards: Any) -> str:
        return self.storage.object(url_of(MIRROR + wildcards.path))

    def remote_version(self, wildcards: Any) -> str:
        return self.version_at(MIRROR + wildcards.path)

    def version_at(self, path: str) -> str:
        found = self.storage.look(url_of(path))
        return json.dumps([url_of(path), found.bytes, found.modified])

    def remote_target(self, wildcards: Any) -> str:
        return shlex.quote(f"s3://{wildcards.path}")

    def staged_remote(self, wildcards: Any) -> str:
        return f"intermediate/staged/{self.planner.report_name(f's3://{wildcards.path}')}"

    def report_remote(self, wildcards: Any) -> str:
        return f"reports/{self.planner.report_name(f's3://{wildcards.path}')}.json"
