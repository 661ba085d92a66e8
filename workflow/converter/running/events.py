"""What a run of Snakemake reports of itself: to the program that started it, one JSON object a line through an inherited pipe,
else to the person who did (progress.py).

    {"event": "run", "total": 8}                                          how many steps there are
    {"event": "start", "id": 3, "message": "read models/a.h5", "output": ["intermediate/a-keras-..."]}
    {"event": "finish", "id": 3}    {"event": "error", "id": 3}
    {"event": "unfinished", "targets": {"converted/a.onnx": "why"}, "sentences": [...]}   at the end of a failed run

Snakemake's logger plugins are packages of their own; a handler on its logger sees the same records.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from typing import Any

__all__ = ["VARIABLE", "attach", "is_watched", "send"]

# The number of the pipe's file descriptor.
VARIABLE = "CONVERTER_EVENTS"
# Rules that make nothing themselves.
_ONLY_ASK = ("all", "zoo", "overview")


class _Handler(logging.Handler):
    def __init__(self, receive: Callable[[dict], None]) -> None:
        super().__init__(logging.INFO)
        self.receive = receive

    def emit(self, record: Any) -> None:
        event = str(getattr(record, "event", ""))
        if event == "run_info":
            total = record.stats.get("total", 0) - sum(record.stats.get(rule, 0) for rule in _ONLY_ASK)
            self.receive({"event": "run", "total": total})
        elif event == "job_info":
            message = record.rule_msg or record.rule_name
            self.receive({"event": "start", "id": record.jobid, "message": message, "output": list(record.output)})
        elif event == "job_finished":
            self.receive({"event": "finish", "id": record.job_id})
        elif event == "job_error":
            self.receive({"event": "error", "id": record.jobid})


def is_watched() -> bool:
    """Whether the program that started this Snakemake asked for its events."""
    return VARIABLE in os.environ


def attach(receive: Callable[[dict], None] | None = None) -> None:
    """Report the events of this process's Snakemake: to `receive`, or to the program that started it and asked for them."""
    from snakemake.logging import logger

    if receive is None:
        # Taken out of the environment: steps, and Snakemakes on other machines, do not own this descriptor.
        descriptor = int(os.environ.pop(VARIABLE))
        os.set_inheritable(descriptor, False)

        def write(entry: dict) -> None:
            with contextlib.suppress(BrokenPipeError):  # a reader that is gone does not stop the conversions
                os.write(descriptor, (json.dumps(entry) + "\n").encode())

        receive = write
    logger.addHandler(_Handler(receive))


def send(entry: dict) -> None:
    """Report an event of our own."""
    from snakemake.logging import logger

    for handler in logger.handlers:
        if isinstance(handler, _Handler):
            handler.receive(entry)
