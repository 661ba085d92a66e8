"""A piece of work in a process of its own, whose output goes to a file."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

__all__ = ["fork"]


def fork(action: Callable[[], int | None], log: Path, crashed: int) -> int:
    """Start `action` and return the process's id. It ends with what `action` returns (None: 0), `crashed` for an exception."""
    pid = os.fork()
    if pid:
        return pid
    code = crashed
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(file, stream)
        code = action() or 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return 0
