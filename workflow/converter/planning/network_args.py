"""The file that `network_args` may name: YAML or JSON, of the arguments that build the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from converter.errors import ParameterError
from converter.planning.parameters import normalize
from converter.planning.value_limits import check_values

__all__ = ["read_arguments"]


def read_arguments(path: Path) -> dict[str, Any] | list[Any]:
    """A mapping or a list of what JSON can express. Raises ParameterError that names the file."""
    import yaml  # which no other step needs

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ParameterError(f"network_args: {path} cannot be read ({reason})") from error
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        values = json.loads(text) if kind == "JSON" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ParameterError(f"network_args: {path} is no {kind} ({' '.join(str(error).split())[:200]})") from error
    check_values(values, f"network_args: {path}")
    if isinstance(values, str):
        raise ParameterError(f"network_args: {path} holds a text; write a mapping or a list of the arguments in it")
    return normalize("network_args", values, str(path))
