"""Sources at s3:// and http:// addresses and targets at s3:// ones, against servers on this machine."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from conftest import Project, last_line
from moto.server import ThreadedMotoServer
from text_graphs import linear

from converter.errors import SourceError
from converter.planning.storage import is_mirror, is_remote, mirror, url_of


class S3:
    """A bucket of a local S3 server, and what Snakemake must be told of it."""

    def __init__(self, endpoint: str) -> None:
        self.options = ("--storage-s3-endpoint-url", endpoint, "--storage-s3-region", "us-east-1")
        client = functools.partial(boto3.client, "s3", region_name="us-east-1")
        self._client = client(endpoint_url=endpoint)
        self._client.create_bucket(Bucket="lab")

    def put(self, key: str, data: bytes) -> None:
        self._client.put_object(Bucket="lab", Key=key, Body=data)

    def get(self, key: str) -> bytes:
        return self._client.get_object(Bucket="lab", Key=key)["Body"].read()

    def listed(self) -> list[str]:
        return [entry["Key"] for entry in self._client.list_objects_v2(Bucket="lab").get("Contents", [])]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


@pytest.fixture
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    folder = tmp_path_factory.mktemp("web")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield folder, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def test_sources_and_targets_elsewhere(project: Project, s3: S3, web: tuple[Path, str]):
    import tensorflow as tf

    s3.put("models/tiny.pbtxt", linear().encode())
    module = tf.Module()
    module.weights = tf.Variable([[1.0, -2.0], [3.0, 0.5]])
    module.__call__ = tf.function(lambda x: tf.tanh(x @ module.weights), [tf.TensorSpec([None, 2], tf.float32, "x")])
    saved = project.folder.parent / "saved"
    tf.saved_model.save(module, str(saved), signatures=module.__call__)
    for path in saved.rglob("*"):
        if path.is_file():
            s3.put(f"models/scorer/{path.relative_to(saved)}", path.read_bytes())
    folder, address = web
    (folder / "nets").mkdir()
    (folder / "nets" / "graph.pbtxt").write_text(linear((5, 6, 7, 8)))
    config = {
        "models": {"scorer": {"convert_from": "s3://lab/models/scorer"}},
        "jobs": [
            {"convert_from": "s3://lab/models/tiny.pbtxt", "convert_to": "s3://lab/results/tiny.onnx"},
            {"convert_from": f"{address}/nets/graph.pbtxt", "convert_to": "converted/web.onnx"},
            {"convert_from": "s3://lab/models/gone.h5", "convert_to": "converted/gone.onnx"},
            {"convert_from": f"{address}/nets/gone.h5", "convert_to": "s3://lab/results/gone.onnx"},
        ],
    }
    run = project.snakemake("all", "converted/scorer.onnx", *s3.options, config=config)
    assert run.returncode == 1
    assert project.converted() == ["scorer.onnx", "web.onnx"]
    assert [key for key in s3.listed() if key.startswith("results/")] == ["results/tiny.onnx"]
    sentences = sorted(line for line in run.stderr.splitlines() if " does not exist: " in line)
    assert sentences == [
        "converted/gone.onnx: s3://lab/models/gone.h5 does not exist: correct convert_from, or your access to it",
        f"s3://lab/results/gone.onnx: {address}/nets/gone.h5 does not exist: correct convert_from, or your access to it",
    ]
    assert last_line(run) in sentences and "Traceback" not in run.stderr
    report = project.report("s3/lab/results/tiny.onnx")
    assert report["status"] == "verified" and report["target"] == "s3://lab/results/tiny.onnx"
    assert report["source"]["path"] == "sources/s3/lab/models/tiny.pbtxt"
    assert project.report("scorer.onnx")["source"]["format"] == "savedmodel"
    first = s3.get("results/tiny.onnx")

    good = {**config, "jobs": config["jobs"][:2]}
    again = project.snakemake("all", "converted/scorer.onnx", "-n", *s3.options, config=good)
    assert "Nothing to be done" in again.stdout + again.stderr
    s3.put("models/tiny.pbtxt", linear((9, 9, 9, 8)).encode())
    run = project.snakemake(*s3.options, config=good)
    assert run.returncode == 0, run.stderr
    assert "s3://lab/results/tiny.onnx  verified" in run.stdout and "web.onnx" not in run.stdout
    assert s3.get("results/tiny.onnx") != first


@pytest.mark.parametrize("url", ["s3://lab/a/b.h5", "http://host:80/x y.pt", "https://host/nets/saved"])
def test_a_fetched_file_tells_its_address(url: str):
    assert is_remote(url) and is_mirror(mirror(url)) and url_of(mirror(url)) == url


@pytest.mark.parametrize(
    "url", ["s3://lab", "s3://lab/../x.h5", "http://host/x.h5?key=1", "s3://lab//x.h5", "s3://lab/{x}.h5"]
)
def test_addresses_that_are_not_plain_are_refused(url: str):
    with pytest.raises(SourceError, match="is no plain address"):
        mirror(url)


@pytest.mark.parametrize("path", ["models/x.h5", "s3:/lab/x", "ftp://host/x.h5", "sources/mine/x.h5"])
def test_ordinary_paths_are_no_addresses(path: str):
    assert not is_remote(path) and not is_mirror(path)
