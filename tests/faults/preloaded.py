"""The preloaded process of the harness: running/fork_server.py with moments in its steps: python -m faults.preloaded KIND FD."""

from __future__ import annotations

import functools
from collections.abc import Callable

from converter.publishing import report
from converter.running import fork_server, step_runner
from converter.verification import runtimes
from faults.moments import DONE, enter


def mark(owner: object, name: str, phase: str, after: str | None = None) -> None:
    """Calling `owner.name` begins `phase`, and its end `after`."""
    function: Callable = getattr(owner, name)

    @functools.wraps(function)
    def marked(*arguments: object, **keywords: object) -> object:
        enter(phase)
        try:
            return function(*arguments, **keywords)
        finally:
            if after:
                enter(after)

    setattr(owner, name, marked)


if __name__ == "__main__":
    mark(step_runner, "run_import", "import", DONE)
    mark(step_runner, "run_export", "export", DONE)
    # From the moment that a runtime opens the staged file to that of the report's first line.
    mark(runtimes.OnnxModel, "__init__", "verification")
    mark(runtimes.TFLiteModel, "__init__", "verification")
    mark(report, "compose", "report")
    fork_server.main()
