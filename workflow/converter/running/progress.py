"""Progress of a run: a bar with the current steps on a terminal and in a notebook, a line per step elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from typing import TextIO

from converter.escape import printable

__all__ = ["CLEAR", "Progress"]

_BAR = 20
# To the beginning of the line, and away with what stands there.
CLEAR = "\r\x1b[K"
_NOTEBOOK_COLUMNS = 100


class Progress:
    """Shows the events of converter.running.events. `quiet`: nothing at all; `plain`: lines on a terminal too.

    ticks: it draws the bar every second by itself; else whoever has it lets time pass.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False, plain: bool = False, ticks: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        # ipykernel's stream is no terminal, and overwrites a line from its beginning.
        self._notebook = "ipykernel" in sys.modules and stream is sys.stderr
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._bar = not quiet and not plain and (terminal or self._notebook)
        self._total = self._begun = self._done = 0
        self._running: dict[int, str] = {}
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if ticks and self._bar:
            threading.Thread(target=self._tick, daemon=True).start()

    def see(self, event: dict | None) -> None:
        """One event; None only lets time pass."""
        with self._lock:
            if self._closed.is_set():
                return
            kind = event["event"] if event else None
            if event is None:
                pass
            elif kind == "run":
                self._total = event["total"]
            elif kind == "start" and event["output"]:
                self._begun += 1
                self._running[event["id"]] = event["message"]
                if not self._bar and not self._quiet:
                    print(
                        f"[{self._begun}/{max(self._total, self._begun)}] {self._clock()} {printable(event['message'])}",
                        file=self._stream,
                        flush=True,
                    )
            elif kind in ("finish", "error") and self._running.pop(event["id"], None) is not None:
                self._done += 1
            if self._bar:
                self._draw()

    def clear(self) -> None:
        """Take the bar away for something else that is written; it comes again by itself."""
        if self._bar:
            self._stream.write(f"\r{' ' * _NOTEBOOK_COLUMNS}\r" if self._notebook else CLEAR)
            self._stream.flush()

    def close(self) -> None:
        """Take the bar away for good."""
        with self._lock:
            self._closed.set()
            self.clear()

    def _tick(self) -> None:
        while not self._closed.wait(1.0):
            self.see(None)

    def _clock(self) -> str:
        return _clock(time.monotonic() - self._started)

    def _draw(self) -> None:
        total = max(self._total, self._done + len(self._running), 1)
        filled = _BAR * self._done // total
        steps = ", ".join(self._running.values()) or ("planning" if not self._begun else "")
        # As long again for each step that is left as those that are done took.
        spent = time.monotonic() - self._started
        left = f", about {_clock(spent / self._done * (total - self._done))} left" if 0 < self._done < total else ""
        line = f"[{'#' * filled}{'.' * (_BAR - filled)}] {self._done}/{total}  {_clock(spent)}{left}  {steps}"
        line = "".join(character if character.isprintable() else "?" for character in line)
        columns = _NOTEBOOK_COLUMNS if self._notebook else shutil.get_terminal_size().columns
        self._stream.write("\r" + line[:columns].ljust(columns) if self._notebook else CLEAR + line[: columns - 1])
        self._stream.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
