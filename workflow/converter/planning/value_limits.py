"""What is refused of any configuration or job list before anything looks at its values one by one."""

from __future__ import annotations

import re

from converter.errors import ParameterError

__all__ = ["check_values"]

_MOST = 10_000_000
_HALF = re.compile("[\ud800-\udfff]")


def check_values(values: object, where: str) -> None:
    """Raise ParameterError, which begins with `where`, for lone surrogates, and for more values than anybody writes.

    Half of a surrogate pair ("\\ud800" in JSON) fits into no file and no file name. YAML's aliases multiply: nine lines
    make a thousand million values, which each step after this would spell out.
    """
    pending, count = [values], 0
    while pending:
        value = pending.pop()
        count += 1
        if isinstance(value, dict):
            pending += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            pending += value
        elif isinstance(value, str) and not value.isascii() and _HALF.search(value):
            raise ParameterError(f"{where}: {value[:80]!a} holds half of a character: write it whole, in UTF-8")
        if count + len(pending) > _MOST:
            raise ParameterError(
                f"{where}: it holds more than {_MOST:,} values, or an alias that contains itself: write fewer"
            )
