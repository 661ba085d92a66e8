"""Servers that drip, never end, unpack without end, or redirect: bounded in time, disk and memory, within the web."""

from __future__ import annotations

import gzip
import http.server
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from conftest import Project
from text_graphs import linear

from converter.errors import SourceError
from converter.planning import storage_limits, web_answers

GRAPH = linear().encode()


class _Odd(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, str | None]] = []  # method, path, authorization

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer()

    def do_GET(self) -> None:  # noqa: N802
        self._answer()

    def _answer(self) -> None:
        self.asked.append((self.command, self.path, self.headers.get("Authorization")))
        self.close_connection = True
        what, _, rest = self.path[1:].partition("/")
        with suppress(OSError):  # who asked has gone
            getattr(self, f"_{what}")(rest)

    def _start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def _good(self, _: str) -> None:
        self._start(200, Content_Length=len(GRAPH))
        if self.command == "GET":
            self.wfile.write(GRAPH)

    def _to(self, target: str) -> None:
        self._start(302, Location=target, Content_Length=0)

    def _endless_redirect(self, target: str) -> None:
        self._start(302, Location=target)
        self._zeros()

    def _circle(self, _: str) -> None:
        self._start(302, Location=self.path, Content_Length=0)

    def _endless(self, _: str) -> None:
        self._start(200)
        self._zeros()

    def _zeros(self) -> None:
        if self.command == "GET":
            for _ in range(4000):  # 4 GB, which is endless enough
                self.wfile.write(bytes(1_000_000))

    def _drip(self, _: str) -> None:
        self._start(200, Content_Length=100_000)
        self._drop(b"x")

    def _headers(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        self._drop(b"x")

    def _drop(self, data: bytes) -> None:
        for _ in range(600):
            self.wfile.write(data)
            self.wfile.flush()
            time.sleep(0.1)

    def _bomb(self, _: str) -> None:
        data = gzip.compress(bytes(50_000_000))
        self._start(200, Content_Length=len(data), Content_Encoding="gzip")
        self.wfile.write(data)


@pytest.fixture
def address() -> Iterator[str]:
    _Odd.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Odd)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


@contextmanager
def memory(megabytes: int) -> Iterator[None]:
    """Inside, this process gets no more than so much beyond what it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fetch(url: str, folder: Path, stated: int = 0) -> Path:
    """As Snakemake's plugin would call it, within the limits."""

    @contextmanager
    def answers(stream: bool) -> Iterator[requests.Response]:
        answer = web_answers.answer("get", url, stream=stream)
        try:
            yield answer
        finally:
            answer.close()

    local = folder / "fetched"
    storage_limits._retrieve_file(SimpleNamespace(size=lambda: stated, httpr=answers, local_path=lambda: str(local)))
    return local


def test_a_body_that_drips(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_limits, "_WHOLE_SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(SourceError, match="took longer than 1 s"):
        fetch(f"{address}/drip", tmp_path, stated=100_000)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("method", ["get", "head"])
def test_headers_that_drip(method: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_answers, "_WHOLE_SECONDS", 1)
    started = time.monotonic()
    with pytest.raises(requests.Timeout, match="did not answer within 1 s"):
        web_answers.answer(method, f"{address}/headers")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("what", ["endless", "bomb"])
def test_more_than_a_disk_has(what: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a stated length, and packed, where the stated one says nothing."""
    monkeypatch.setattr(storage_limits, "_UNSTATED", 5_000_000)
    with pytest.raises(SourceError, match="it has more than"):
        fetch(f"{address}/{what}", tmp_path)
    assert (tmp_path / "fetched").stat().st_size <= 5_000_000


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_bodies_are_not_read_unasked(follow: bool, stream: bool, address: str) -> None:
    """Of redirects, and of what is asked for its size alone where a server knows no HEAD."""
    with memory(300):
        for path in ("endless_redirect//good/x", "endless/"):
            answer = web_answers.answer("get", f"{address}/{path}", allow_redirects=follow, stream=stream)
            answer.close()
    assert answer.status_code == 200


def test_where_redirects_lead(address: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.pbtxt"
    secret.write_bytes(GRAPH)
    for target in (f"file://{secret}", f"FILE://{secret}", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1:1/x"):
        with pytest.raises(requests.RequestException, match="no address of a web server"):
            web_answers.answer("get", f"{address}/to/{target}")
    with pytest.raises(requests.RequestException, match="more than 10 times"):
        web_answers.answer("get", f"{address}/circle/x")
    answer = web_answers.answer("get", f"{address}/to/{address}/good/x", auth=("name", "password"))
    assert answer.content == GRAPH and all(asked[2] for asked in _Odd.asked[-2:])
    other = address.replace("127.0.0.1", "localhost")
    assert web_answers.answer("get", f"{address}/to/{other}/good/x", auth=("name", "password")).content == GRAPH
    assert [bool(asked[2]) for asked in _Odd.asked[-2:]] == [True, False]
    answer = web_answers.answer("head", f"{address}/to/{address}/good/x", allow_redirects=False)
    assert answer.status_code == 302


def test_the_plugin_asks_so() -> None:
    plugin = pytest.importorskip("snakemake_storage_plugin_http")
    from converter.planning.storage import mirror

    storage_limits.with_limits(plugin.StorageObject, mirror)
    assert plugin.requests.get.func is plugin.requests.head.func is web_answers.answer
    assert plugin.requests.codes is requests.codes


@pytest.mark.parametrize("follow", ["true", ""])
def test_redirects_in_a_run(follow: str, project: Project, address: str) -> None:
    """To a file: never; to another server, a private one too: unless the user says no, which is "" to Snakemake (9.27)."""
    secret = project.folder / "secret.pbtxt"
    secret.write_bytes(GRAPH)
    jobs = [
        {"convert_from": f"{address}/to/file:{secret}", "convert_to": "converted/secret.onnx"},
        {"convert_from": f"{address}/to/http:/good/x.pbtxt", "convert_to": "converted/inside.onnx"},
        {"convert_from": f"{address}/good/x.pbtxt", "convert_to": "converted/good.onnx"},
    ]
    run = project.snakemake("--storage-http-allow-redirects", follow, config={"jobs": jobs})
    assert "Traceback" not in run.stderr, run.stderr[-3000:]
    expected = ["good.onnx", "inside.onnx"] if follow == "true" else ["good.onnx"]
    assert project.converted() == expected, run.stderr[-3000:]
    for name in {"good", "inside", "secret"} - {path.split(".")[0] for path in expected}:
        assert [line for line in run.stderr.splitlines() if line.startswith(f"converted/{name}.onnx: {address}/to/")]
