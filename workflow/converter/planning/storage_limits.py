"""What a server can do to a fetch: nothing beside the fetched files, no more bytes than it says, and no run without end.

Snakemake's storage plugins (s3 0.3.6, http 0.3.1) write each object of a directory wherever its key leads, take a page of
an error for a file, and wait for ever. What goes wrong while a source is fetched would end the whole run (9.27): the
fetched file is left empty instead, and its sentence is remembered, so that the rule that copies it fails alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from converter.errors import ConverterError, SourceError
from converter.library_patches.replacing import replaced_for_good
from converter.library_patches.snakemake import keys_of, requests_of, retrieving
from converter.planning import web_answers
from converter.run_state import failures

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

__all__ = ["FETCH", "refuse_size", "with_limits"]

# The subject under which run_state/failures.py remembers what went wrong, followed by the path that the source is fetched to.
FETCH = "fetch"
# For the headers of an answer, however often a byte of them comes.
_ANSWER_SECONDS = 120
# As long as a step may take; a server that gives a byte now and then answers all the time.
_WHOLE_SECONDS, _SECONDS_PER_MB = 1800, 10
_UNSTATED = 1 << 30
_MOST_FILES = 100_000
_PIECE = 1 << 20
_LIMITED: set[type] = set()


def with_limits(plugin: type, path_of: Callable[[str], str]) -> None:
    """Let the objects of a plugin's class take no more than their addresses name; `path_of`: where a source is fetched to.

    Raises UnsupportedError where the plugin is not as it is known here.
    """
    if plugin in _LIMITED:
        return
    _, retrieve = retrieving(plugin).find()
    if hasattr(plugin, "httpr"):
        _, requests = requests_of(plugin).find()
        calls = {name: functools.partial(web_answers.answer, name) for name in ("get", "head")}
        limited = requests_of(plugin), SimpleNamespace(**{**vars(requests), **calls})
        retrieve = _retrieve_file
    else:
        _limit_answers()
        _, get_subkeys = keys_of(plugin).find()

        def plain_keys(found: Any) -> Iterator[object]:
            return _plain_keys(found, get_subkeys(found))

        limited = keys_of(plugin), plain_keys

    def retrieve_limited(found: Any) -> None:
        _retrieve(found, retrieve, path_of(found.query))

    replaced_for_good(limited, (retrieving(plugin), retrieve_limited))
    _LIMITED.add(plugin)


@functools.cache  # once a process
def _limit_answers() -> None:
    """Let the start of an answer, its headers, come within _ANSWER_SECONDS: http.client (Python 3.11) waits for the next of
    them without end, and reads "100 Continue" for ever. boto3 fetches by urllib3; for web servers see web_answers.py.
    """
    from urllib3.connection import HTTPConnection

    answer = HTTPConnection.getresponse

    @functools.wraps(answer)
    def answer_in_time(self: HTTPConnection, *args: Any, **options: Any) -> HTTPResponse:
        ended, connected = threading.Event(), self.sock

        def end() -> None:
            ended.set()
            with contextlib.suppress(OSError):  # closed by now
                connected.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_ANSWER_SECONDS, end)
        timer.daemon = True
        timer.start()
        try:
            return answer(self, *args, **options)
        finally:
            timer.cancel()
            if ended.is_set():
                raise ConnectionError(f"no answer was complete within {_ANSWER_SECONDS} s")

    HTTPConnection.getresponse = answer_in_time


def refuse_size(url: str, size: int) -> None:
    """Raise SourceError for a size that is none, or for which there is no room: Snakemake would end the run (9.27)."""
    free = shutil.disk_usage(".").free
    if size < 0:
        raise SourceError(f"{url} cannot be fetched: its server says that it has {size} bytes")
    if size > free:
        raise SourceError(f"{url} has {size / 1e9:,.1f} GB, and there is room for {free / 1e9:,.1f} GB: make room")


def _retrieve(found: Any, retrieve: Callable[[object], None], path: str) -> None:
    local = Path(found.local_path())
    try:
        retrieve(found)
    except Exception as error:  # of requests, urllib3 and boto, and of the disk
        lines = (
            [str(error)] if isinstance(error, ConverterError) else (str(error).strip().splitlines() or [repr(error)])
        )
        failures.remember(f"{FETCH} {path}", f"{FETCH} {path}: {found.query} cannot be fetched: {lines[0][:200]}")
        if local.is_dir():
            shutil.rmtree(local)
            local.mkdir()
        else:
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(b"")
        os.utime(local, (0, 0))  # older than the source: the next run fetches it again


def _retrieve_file(found: Any) -> None:
    stated = found.size()
    limit = max(stated, 0) or _UNSTATED
    end = time.monotonic() + _WHOLE_SECONDS + _SECONDS_PER_MB * (limit // 1_000_000)
    local = Path(found.local_path())
    with found.httpr(stream=True) as answer:
        if answer.status_code != 200:
            raise SourceError(f"its server answered {answer.status_code} {answer.reason}")
        packed = bool(answer.headers.get("Content-Encoding"))
        answer.raw.decode_content = packed
        if packed:  # the length that was stated is that of the packed bytes
            limit = _UNSTATED
        local.parent.mkdir(parents=True, exist_ok=True)
        with open(local, "wb") as file:
            while piece := answer.raw.read1(_PIECE):
                if file.tell() + len(piece) > limit:
                    said = f"{limit:,} bytes, as its server says" if stated > 0 and not packed else "1 GB"
                    raise SourceError(f"it has more than {said}: fetch it yourself, if it is the right one")
                if time.monotonic() > end:
                    raise SourceError(f"its server took longer than {_WHOLE_SECONDS} s")
                file.write(piece)
        if stated > 0 and not packed and local.stat().st_size < stated:
            raise SourceError(f"only {local.stat().st_size:,} of its {stated:,} bytes came")


def _plain_keys(found: Any, items: Iterable[Any]) -> Iterator[object]:
    """The objects of a directory; raises SourceError for a key that would be written elsewhere."""
    start = len(found.s3obj().key) + 1
    for count, item in enumerate(items):
        name = item.key[start:]
        parts = name.split("/")
        if not all(parts) or {".", ".."} & set(parts) or "\\" in name or PurePosixPath(name).is_absolute():
            raise SourceError(f"{found.query} contains a name that leads out of it ({name!r}): copy the model yourself")
        if count == _MOST_FILES:
            raise SourceError(f"{found.query} has more than {_MOST_FILES:,} files: name the directory of one model")
        yield item
