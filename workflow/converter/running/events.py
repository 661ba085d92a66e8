"""What a run of Snakemake reports to the program that started it: one JSON object a line, through an inherited pipe.

    {"event": "run", "total": 8}                                          how many steps there are
    {"event": "start", "id": 3, "message": "read models/a.h5", "output": ["intermediate/a-keras-..."]}
    {"event": "finish", "id": 3}    {"event": "error", "id": 3}
    {"event": "unfinished", "targets": ["converted/a.onnx"]}              at the end of a failed run

Snakemake's logger plugins are packages of their own; a handler on its logger sees the same records.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os

__all__ = ["VARIABLE", "attach", "send"]

# The number of the pipe's file descriptor.
VARIABLE = "CONVERTER_EVENTS"


class _Handler(logging.Handler):
    def __init__(self, descriptor: int) -> None:
        super().__init__(logging.INFO)
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", ""))
        if event == "run_info":
            self.send({"event": "run", "total": record.stats.get("total", 0)})
        elif event == "job_info":
            message = record.rule_msg or record.rule_name
            self.send({"event": "start", "id": record.jobid, "message": message, "output": list(record.output)})
        elif event == "job_finished":
            self.send({"event": "finish", "id": record.job_id})
        elif event == "job_error":
            self.send({"event": "error", "id": record.jobid})

    def send(self, entry: dict) -> None:
        # A reader that is gone does not stop the conversions.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._descriptor, (json.dumps(entry) + "\n").encode())


def attach() -> None:
    """Report the events of this process's Snakemake, if the program that started it asked for them."""
    # Taken out of the environment: steps, and Snakemakes on other machines, do not own this descriptor.
    descriptor = os.environ.pop(VARIABLE, None)
    if descriptor is None:
        return
    from snakemake.logging import logger

    os.set_inheritable(int(descriptor), False)
    logger.addHandler(_Handler(int(descriptor)))


def send(entry: dict) -> None:
    """Report an event of our own."""
    from snakemake.logging import logger

    for handler in logger.handlers:
        if isinstance(handler, _Handler):
            handler.send(entry)
