"""An answer of a web server's, up to its headers: what it says before its body cannot take all time or all memory.

requests (2.34) waits for each byte of the headers anew, and reads the whole body of an answer that sends it elsewhere into
memory, also where it is not to go there; so redirects are followed here. The body is left to who asked.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests

__all__ = ["answer"]

# To connect, and between two answers of a server; for all of an answer's headers.
_SECONDS = (30, 60)
_WHOLE_SECONDS = 120
_MOST_REDIRECTS = 10


class _Session(requests.Session):
    """One that goes nowhere by itself."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


def answer(
    method: str, url: str, auth: Any = None, allow_redirects: bool = True, stream: bool = True
) -> requests.Response:
    """The answer to "get" or "head", its body unread, whatever `stream` says.

    Raises requests.RequestException for no answer in time, more than ten redirects, or one to what is not http(s).
    """
    for _ in range(_MOST_REDIRECTS):
        found = _in_time(lambda address=url, credentials=auth: _ask(method, address, credentials))
        target = requests.Session().get_redirect_target(found) if allow_redirects else None
        if target is None:
            return found
        found.close()
        following = urljoin(url, target)
        if urlsplit(following).scheme not in ("http", "https"):
            raise requests.RequestException(f"it redirects to {following[:200]}, which is no address of a web server")
        if _host(following) != _host(url):
            auth = None  # those of the first server are no other's
        url = following
    raise requests.RequestException(f"it redirects more than {_MOST_REDIRECTS} times")


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _ask(method: str, url: str, auth: Any) -> requests.Response:
    with _Session() as session:
        return session.request(method, url, auth=auth, stream=True, allow_redirects=False, timeout=_SECONDS)


def _in_time(ask: Callable[[], requests.Response]) -> requests.Response:
    """What `ask` returns or raises; a thread waits for it, since a server that gives a byte now and then is never late."""
    found: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def wait() -> None:
        try:
            found.put(ask())
        except Exception as error:
            found.put(error)

    threading.Thread(target=wait, daemon=True).start()
    try:
        result = found.get(timeout=_WHOLE_SECONDS)
    except queue.Empty:
        raise requests.Timeout(f"it did not answer within {_WHOLE_SECONDS} s") from None
    if isinstance(result, Exception):
        raise result
    return result
