"""What a run shows on the terminal: Snakemake's own errors stay, its chatter and its words about our failures go.

A failed conversion is an ordinary result here: `publish` fails with a sentence that is printed last of all. Snakemake
would add six lines about an exit status. Its log file keeps everything.
"""

from __future__ import annotations

import atexit
import errno
import logging
import re
import sys
from collections.abc import Callable

from converter import formats
from converter.escape import printable
from converter.planning.config import CONVERTED
from converter.running.progress import Progress

__all__ = ["quieten"]

_CHATTER = re.compile(
    r"Complete log|Elapsed time|Select jobs to execute|Execute \d+ jobs|Using shell|Assuming unrestricted|"
    r"Conda environments: ignored|Exiting because a job execution failed|Using workflow specific profile|"
    r"Building DAG of jobs|Will exit after finishing currently running jobs|Provided cores|Rules claiming|"
    r"WorkflowError:\nAt least one job did not complete|Removing temporary output|Removing output files of failed job|"
    r"RuleException:\nCalledProcessError|Trying to restart job|Touching output file|Deactivating conda|"
    r"Workflow defines that rule|Terminating processes on user request"
)


# What Snakemake's own file operations end it with on a disk that is full, read-only, or somebody else's: the last line of
# a traceback, or of an error of its own.
_ERRNOS = "|".join(str(getattr(errno, name)) for name in ("EPERM", "EIO", "EACCES", "ENOSPC", "EROFS", "EDQUOT"))
# A target that no rule of this workflow makes: what Snakemake (9.27) says of it is about rules.
_NO_RULE = re.compile(
    r"MissingRuleException:\s+No rule to produce (?P<target>.+) \(if you use input functions", re.DOTALL
)
_SYSTEM_ERROR = re.compile(rf"\w*Error: \[Errno (?:{_ERRNOS})\] (?P<reason>[^:\n]+)(?:: '(?P<path>.+)')?$")


# What the line of each step (progress.py) says already.
_SHOWN = ("progress", "job_finished", "run_info", "resources_info")


class _Filter(logging.Filter):
    def __init__(self, progress: Progress | None = None, shows: Callable[[], bool] = lambda: True) -> None:
        super().__init__()
        self._progress, self._shows = progress, shows

    def filter(self, record: logging.LogRecord) -> bool:
        if self._progress is not None and self._shows() and str(getattr(record, "event", "")) in _SHOWN:
            return False
        shown = self._is_shown(record)
        if shown and self._progress is not None:
            self._progress.clear()
        return shown

    def _is_shown(self, record: logging.LogRecord) -> bool:
        message = record.getMessage().strip()
        if error := _NO_RULE.match(message):
            sentence = _no_target(error["target"])
            atexit.register(print, sentence, file=sys.stderr, flush=True)
            return False
        if error := _SYSTEM_ERROR.search(message):
            path = error["path"] or "this folder"
            atexit.register(
                print,
                f"{path} cannot be written ({error['reason']}): make room or give rights, and run it again; "
                ".snakemake/log/ has more",
                file=sys.stderr,
                flush=True,
            )
            return False
        return not _CHATTER.match(message)


def _no_target(target: str) -> str:
    """What to ask for instead of a file that this workflow does not make."""
    name = target.rstrip("/").rpartition("/")[2]
    if name.rpartition(".")[2] in formats.target_extensions() and not target.startswith("reports/"):
        what = f"ask for {CONVERTED}{name}, or write a job with convert_to: {target}"
    else:
        what = f"targets are {CONVERTED}NAME.onnx and such, reports/NAME.inspect.json, zoo; snakemake --list names all kinds"
    return printable(f"{target}: no rule makes it: {what}")


def quieten(progress: Progress | None = None, shows: Callable[[], bool] = lambda: True) -> None:
    """Put the filter on Snakemake's terminal handler, if its profile or the user asked for quiet at all.

    progress: what is shown in place of Snakemake's own words on its progress, as long as `shows()`.
    """
    from snakemake.logging import logger

    for handler in logger.handlers:
        quiet = any(getattr(existing, "quiet", None) for existing in handler.filters)
        if handler.name == "DefaultStreamHandler" and quiet:
            handler.addFilter(_Filter(progress, shows))
