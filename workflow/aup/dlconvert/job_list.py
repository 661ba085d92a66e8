"""Read a job list: JSON, with the trailing commas of the original page's example, or YAML in a .yaml file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from converter.errors import ParameterError
from converter.planning.value_limits import check_values

__all__ = ["parse_jobs", "read_jobs"]

# A string, or a comma with nothing but space before the closing bracket; strings come first, so that theirs stay.
_TRAILING_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])|,(?=\s*\Z)')


def read_jobs(path: Path) -> list:
    """The jobs of a file. Raises ParameterError when it cannot be read or parsed."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ParameterError(f"{path}: the job list cannot be read: {reason}") from None
    if path.suffix in (".yaml", ".yml"):
        try:
            return _listed(yaml.safe_load(text), str(path))
        except (yaml.YAMLError, RecursionError, ValueError) as error:  # too deep; a date or number that is none
            raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return parse_jobs(text, str(path))


def parse_jobs(text: str, where: str) -> list:
    """The jobs of a JSON text: a list of them, or a single one. Raises ParameterError, which begins with `where`."""
    text = _TRAILING_COMMA.sub(lambda match: match[1] or " ", text)
    try:
        return _listed(json.loads(text, object_pairs_hook=lambda pairs: _mapping(pairs, where)), where)
    except json.JSONDecodeError as error:
        raise ParameterError(
            f"{where} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            'write {"convert_from": "m.h5", "convert_to": "m.onnx"}, or a list of such'
        ) from None
    except (RecursionError, ValueError) as error:  # too deep; a number of too many digits
        raise ParameterError(f"{where} is no job list: {error}") from None


def _listed(jobs: object, where: str) -> list:
    if isinstance(jobs, dict):
        jobs = [jobs]
    if not isinstance(jobs, list) or not jobs:
        raise ParameterError(
            f"{where} holds no jobs: write a mapping with convert_from and convert_to, or a list of such"
        )
    check_values(jobs, where)
    return jobs


def _mapping(pairs: list[tuple[str, object]], where: str) -> dict:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ParameterError(f"{where}: {twice!r} stands twice in one mapping: remove one")
    return mapping
