"""Python reads this first where PYTHONPATH says so: the publishing step, a process of its own, gets its moments too."""

import atexit
import sys
from pathlib import Path

if len(sys.orig_argv) > 1 and Path(sys.orig_argv[1]).name == "publish.py":
    sys.path.append(str(Path(__file__).resolve().parents[2]))
    from faults.moments import DONE, enter

    atexit.register(enter, DONE)
    enter("publishing")
