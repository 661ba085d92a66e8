"""Progress of a run: a bar with the current steps on a terminal, a line per step elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from typing import TextIO

__all__ = ["Progress"]

_BAR = 20


class Progress:
    """Shows the events of converter.running.events. `quiet`: nothing at all; `plain`: lines on a terminal too."""

    def __init__(self, stream: TextIO, *, quiet: bool = False, plain: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._bar = stream.isatty() and os.environ.get("TERM") != "dumb" and not plain
        self._total = self._begun = self._done = 0
        self._running: dict[int, str] = {}
        self._started = time.monotonic()

    def see(self, event: dict | None) -> None:
        """One event; None only lets time pass."""
        kind = event["event"] if event else None
        if kind == "run":
            self._total = event["total"] - 1  # without the rule that only asks for all jobs' files
        elif kind == "start" and event["output"]:
            self._begun += 1
            self._running[event["id"]] = event["message"]
            if not self._bar and not self._quiet:
                print(
                    f"[{self._begun}/{max(self._total, self._begun)}] {event['message']}", file=self._stream, flush=True
                )
        elif kind in ("finish", "error") and self._running.pop(event["id"], None) is not None:
            self._done += 1
        if self._bar and not self._quiet:
            self._draw()

    def close(self) -> None:
        """Take the bar away: the table follows."""
        if self._bar and not self._quiet:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self) -> None:
        total = max(self._total, self._done + len(self._running), 1)
        filled = _BAR * self._done // total
        seconds = int(time.monotonic() - self._started)
        steps = ", ".join(self._running.values()) or ("planning" if not self._begun else "")
        line = (
            f"[{'#' * filled}{'.' * (_BAR - filled)}] {self._done}/{total}  {seconds // 60}:{seconds % 60:02}  {steps}"
        )
        line = "".join(character if character.isprintable() else "?" for character in line)
        self._stream.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
