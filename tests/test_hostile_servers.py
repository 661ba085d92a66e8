"""Servers that lie, never stop, or keep objects whose keys lead elsewhere: a sentence for that target, and nothing else."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from conftest import Project
from test_storage import S3, s3  # noqa: F401 (a fixture)
from text_graphs import linear

from converter.errors import SourceError
from converter.planning import storage_limits
from converter.planning.storage_limits import _plain_keys, refuse_size

GRAPH = linear().encode()
ENDLESS = 30_000_000


class _Lies(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer()

    def do_GET(self) -> None:  # noqa: N802
        what = self.path.split("/")[1]
        if what == "endless":
            self._headers(200, {"Connection": "close"})
            for _ in range(ENDLESS // 1_000_000):
                try:
                    self.wfile.write(bytes(1_000_000))
                except OSError:
                    break
            self.close_connection = True
        elif what == "error":
            self._headers(500, {"Content-Length": "5"})
            self.wfile.write(b"sorry")
        else:
            self._answer()
            self.wfile.write(GRAPH)
            self.close_connection = True

    def _answer(self) -> None:
        lengths = {"short": len(GRAPH) + 100, "negative": -5, "huge": 10**30}
        self._headers(200, {"Content-Length": str(lengths.get(self.path.split("/")[1], len(GRAPH)))})

    def _headers(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Lies)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def test_servers_that_lie(project: Project, address: str) -> None:
    said = {
        "endless": f"has more than {len(GRAPH):,} bytes, as its server says",
        "error": "its server answered 500",
        "short": f"{len(GRAPH)} bytes read, 100 more expected",
        "negative": "its server says that it has -5 bytes",
        "huge": "make room",
    }
    jobs = [
        {"convert_from": f"{address}/{name}/{name}.pbtxt", "convert_to": f"converted/{name}.onnx"}
        for name in [*said, "good"]
    ]
    run = project.snakemake(config={"jobs": jobs})
    assert project.converted() == ["good.onnx"], run.stderr[-3000:]
    assert "Traceback" not in run.stderr and "a step was ended" not in run.stderr
    for name, words in said.items():
        (sentence,) = (line for line in run.stderr.splitlines() if line.startswith(f"converted/{name}.onnx: "))
        assert address in sentence and words in sentence
        assert project.report(f"{name}.onnx")["status"] == "failed"
    fetched = [path for path in project.folder.rglob("*.pbtxt") if path.is_file()]
    assert all(path.stat().st_size <= len(GRAPH) for path in fetched), fetched


def test_keys_that_lead_out(project: Project, s3: S3) -> None:  # noqa: F811
    outside = project.folder / "absolute.txt"
    for key in ("../../../../../escaped.txt", f"/{outside}", "a/../../../../../../escaped.txt"):
        s3.put("nets/scorer/saved_model.pb", b"")
        s3.put(f"nets/scorer/{key}", b"written by a stranger")
    config = {"models": {"scorer": {"convert_from": "s3://lab/nets/scorer"}}}
    run = project.snakemake("converted/scorer.onnx", *s3.options, config=config)
    assert run.returncode == 1
    assert "s3://lab/nets/scorer contains a name that leads out of it" in run.stderr.splitlines()[-1]
    assert not outside.exists() and not list(project.folder.parent.rglob("escaped.txt"))


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a//x", "./x", "a\\..\\x", ".."])
def test_keys_are_looked_at_while_they_are_fetched(name: str) -> None:
    """The bucket may be another by then."""
    found = SimpleNamespace(query="s3://lab/m", s3obj=lambda: SimpleNamespace(key="m"))
    items = [SimpleNamespace(key="m/saved_model.pb"), SimpleNamespace(key="m/variables/variables.index")]
    assert list(_plain_keys(found, items)) == items
    with pytest.raises(SourceError, match="leads out of it"):
        list(_plain_keys(found, [*items, SimpleNamespace(key=f"m/{name}")]))


@pytest.mark.parametrize("size", [-1, 10**30])
def test_sizes_that_are_none(size: int) -> None:
    with pytest.raises(SourceError):
        refuse_size("http://host/x.h5", size)


_STARTS = {"continue": b"HTTP/1.1 100 Continue\r\n\r\n", "headers": b"x"}


@pytest.mark.parametrize("kind", _STARTS)
def test_answers_of_a_bucket_that_never_begin(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then keeps a request alive for ever, and so does what http.client itself skips."""
    import urllib3

    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listening.accept()
        with contextlib.suppress(OSError):
            connection.recv(65536)
            if kind == "headers":
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while True:
                connection.sendall(_STARTS[kind])
                time.sleep(0.01)

    threading.Thread(target=serve, daemon=True).start()
    storage_limits._limit_answers()
    monkeypatch.setattr(storage_limits, "_ANSWER_SECONDS", 1)
    failures: list[Exception] = []

    def ask() -> None:
        try:
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            urllib3.PoolManager().request("HEAD", address, retries=False, timeout=60)
        except urllib3.exceptions.HTTPError as error:
            failures.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(15)
    assert not asking.is_alive() and "within 1 s" in str(failures[0])
