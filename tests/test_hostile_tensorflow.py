"""Graphs, SavedModels and checkpoints that read, write or run what they should not: refused by name, and nothing happens."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from imports import run_step

v1 = tf.compat.v1


class Watched:
    """A named pipe: whoever opens it for reading is noticed, and gets an empty file."""

    def __init__(self, path: Path) -> None:
        self.path, self.was_read, self._stop = path, False, False
        os.mkfifo(path)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop:
            try:
                os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
                self.was_read = True
            except OSError:  # no reader
                pass
            time.sleep(0.01)

    def stop(self) -> bool:
        self._stop = True
        self._thread.join()
        return self.was_read

    def anew(self) -> Watched:
        """Another one in its place, to which nothing is known of what was before: of that the first may notice late."""
        self.stop()
        self.path.unlink()
        return Watched(self.path)


@pytest.fixture
def secret(tmp_path: Path):
    watched = Watched(tmp_path / "secret")
    yield watched
    watched.stop()


def write_pb(path: Path, build: Callable) -> Path:
    with tf.Graph().as_default() as graph:
        build(v1.placeholder(tf.float32, (None, 4), name="x"))
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def _reads(x, secret, _pwned):
    text = tf.io.read_file(str(secret))
    tf.identity(x + tf.cast(tf.strings.length(text), tf.float32), name="y")


def _writes(x, _secret, pwned):
    with tf.control_dependencies([tf.io.write_file(str(pwned), "x")]):
        tf.identity(x, name="y")


def _lists(x, secret, _pwned):
    tf.identity(x + tf.cast(tf.size(tf.io.matching_files(str(secret.parent / "*"))), tf.float32), name="y")


def _prints(x, _secret, pwned):
    with tf.control_dependencies([tf.raw_ops.PrintV2(input="x", output_stream=f"file://{pwned}")]):
        tf.identity(x, name="y")


def _python(x, _secret, pwned):
    y = tf.numpy_function(lambda value: (pwned.touch(), value)[1], [x], tf.float32)
    tf.identity(tf.ensure_shape(y, (None, 4)), name="y")


def _in_a_function(x, _secret, pwned):
    @tf.function
    def inner(value):
        tf.io.write_file(str(pwned), "x")
        return value

    tf.identity(inner(x), name="y")


def _in_a_branch(x, _secret, pwned):
    def write():
        with tf.control_dependencies([tf.io.write_file(str(pwned), "x")]):
            return tf.identity(x)

    tf.identity(v1.cond(tf.reduce_sum(x) < 1e9, write, lambda: x), name="y")


def _dumps(x, _secret, pwned):
    y = tf.raw_ops.DebugIdentityV3(input=x, debug_urls=[f"file://{pwned}"])
    tf.identity(y, name="y")


def _maps_memory(x, secret, _pwned):
    constant = tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[4], memory_region_name=str(secret))
    tf.identity(x + constant, name="y")


def _ends_the_program(x, _secret, _pwned):
    with tf.control_dependencies([tf.raw_ops.Abort(exit_without_error=True)]):
        tf.identity(x, name="y")


@pytest.mark.parametrize(
    ("build", "operator"),
    [
        (_reads, "ReadFile"),
        (_writes, "WriteFile"),
        (_lists, "MatchingFiles"),
        (_prints, "PrintV2"),
        (_python, "PyFunc"),
        (_in_a_function, "WriteFile"),
        (_in_a_branch, "WriteFile"),
        (_dumps, "DebugIdentityV3"),
        (_maps_memory, "ImmutableConst"),
        (_ends_the_program, "Abort"),
    ],
)
def test_graph_operators_are_refused(build, operator: str, tmp_path: Path, secret: Watched) -> None:
    pwned = tmp_path / "pwned"
    source = write_pb(tmp_path / "evil.pb", lambda x: build(x, secret.path, pwned))
    pwned.unlink(missing_ok=True)  # building a graph in Python already runs some of it
    watched = secret.anew()
    hub = run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y")
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error
    assert operator in hub.error["message"] and "trusted: true" in hub.error["message"]
    assert not pwned.exists() and not watched.stop()


def test_importing_a_graph_reads_nothing_either(tmp_path: Path, secret: Watched) -> None:
    """TensorFlow evaluates a constant shape while it imports a graph, and would read the file that it comes from."""

    def build(x):
        shape = tf.ensure_shape(tf.io.decode_raw(tf.io.read_file(str(secret.path)), tf.int32), (2,))
        tf.reshape(x, shape, name="side")
        tf.nn.softmax(x @ tf.constant(np.eye(4, 3, dtype=np.float32)), name="y")

    source = write_pb(tmp_path / "model.pb", build)
    watched = secret.anew()  # building the graph read it too
    hub = run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y")
    assert hub.error is None, hub.error
    assert not watched.stop()


def test_what_is_not_needed_does_not_matter(tmp_path: Path) -> None:
    """The image may come from a file in training; who feeds the image needs no trust."""

    def build(_):
        image = tf.io.decode_raw(tf.io.read_file("/data/train.raw"), tf.float32)
        image = tf.reshape(image, (1, 4), name="image")
        tf.nn.softmax(image @ tf.constant(np.eye(4, 3, dtype=np.float32)), name="y")

    source = write_pb(tmp_path / "model.pb", build)
    hub = run_step("import_protobuf", source, tmp_path / "hub", input_nodes="image", output_nodes="y")
    assert hub.error is None, hub.error


def test_trust_lets_it_run(tmp_path: Path) -> None:
    pwned = tmp_path / "written"
    source = write_pb(tmp_path / "model.pb", lambda x: _writes(x, None, pwned))
    hub = run_step("import_protobuf", source, tmp_path / "hub", output_nodes="y", trusted=True)
    assert hub.error is None or hub.error["kind"] != "UntrustedError"
    assert pwned.exists()


def _saved_model(folder: Path, module: tf.Module) -> Path:
    tf.saved_model.save(module, str(folder), signatures=module.score)
    return folder


class Plain(tf.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = tf.Variable(np.eye(4, 3, dtype=np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
    def score(self, x):
        return {"y": tf.nn.softmax(x @ self.weight)}


def test_saved_model_functions(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"

    class Writes(Plain):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def score(self, x):
            tf.io.write_file(str(pwned), "x")
            return {"y": x @ self.weight}

    source = _saved_model(tmp_path / "model", Writes())
    hub = run_step("import_savedmodel", source, tmp_path / "hub")
    assert hub.error["kind"] == "UntrustedError" and "WriteFile" in hub.error["message"]
    assert not pwned.exists()


def acts_while_it_is_loaded(pwned: Path) -> tf.Module:
    """TensorFlow runs the functions that create and initialize resources as soon as a SavedModel is loaded."""
    from tensorflow.python.trackable.resource import CapturableResource

    class Resource(CapturableResource):
        def _create_resource(self):
            tf.io.write_file(str(pwned), "x")
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.int64)

        def _initialize(self):
            pass

    class Loads(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.resource = Resource()

    return Loads()


def test_saved_model_that_acts_while_it_is_loaded(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    module = acts_while_it_is_loaded(pwned)
    source = _saved_model(tmp_path / "model", module)
    pwned.unlink(missing_ok=True)
    hub = run_step("import_savedmodel", source, tmp_path / "hub")
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error
    assert "WriteFile" in hub.error["message"] and not pwned.exists()


def test_saved_model_links(tmp_path: Path) -> None:
    source = _saved_model(tmp_path / "model", Plain())
    assert run_step("import_savedmodel", source, tmp_path / "plain").error is None
    data = next((source / "variables").glob("*.data-*"))
    outside = data.rename(tmp_path / "outside.data")
    data.symlink_to(outside)
    hub = run_step("import_savedmodel", source, tmp_path / "hub")
    assert hub.error["kind"] == "UntrustedError" and "symbolic link" in hub.error["message"]
    assert str(data) in hub.error["message"]
    assert run_step("import_savedmodel", source, tmp_path / "trusting", trusted=True).error is None
    data.unlink()
    (source / "variables" / "within").symlink_to("variables.index")
    outside.rename(data)
    assert run_step("import_savedmodel", source, tmp_path / "within").error is None


@pytest.mark.parametrize("part", [".data-00000-of-00001", ".index"])
def test_checkpoint_links(part: str, tmp_path: Path) -> None:
    """A stranger's part may not lead to a file of the user's; all of them together may be links, as a user makes them."""
    folder = tmp_path / "models"
    folder.mkdir()
    _checkpoint(tmp_path / "stored")
    for path in (tmp_path / "stored").iterdir():
        shutil.copy(path, folder)
    source, moved = folder / "model.meta", folder / f"model{part}"
    assert run_step("import_checkpoint", source, tmp_path / "plain").error is None
    moved.unlink()
    moved.symlink_to(tmp_path / "stored" / moved.name)
    hub = run_step("import_checkpoint", source, tmp_path / "hub")
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error
    assert f"{moved} is a symbolic link" in hub.error["message"] and "trusted: true" in hub.error["message"]
    assert run_step("import_checkpoint", source, tmp_path / "trusting", trusted=True).error is None
    for path in (tmp_path / "stored").iterdir():
        (folder / path.name).unlink()
        (folder / path.name).symlink_to(path)
    assert run_step("import_checkpoint", source, tmp_path / "linked").error is None


def _checkpoint(folder: Path) -> None:
    folder.mkdir()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, (None, 4), name="x")
        weight = tf.compat.v1.get_variable("weight", initializer=tf.random.normal((4, 3), seed=1), use_resource=False)
        tf.nn.softmax(x @ weight, name="y")
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(folder / "model"), write_state=False)


def test_saved_model_assets(tmp_path: Path) -> None:
    """A vocabulary among the assets is read; one elsewhere is not."""
    from converter.tf.sources.saved_model_file import read_saved_model

    words = tmp_path / "words.txt"
    words.write_text("alpha\nbeta\n")

    class Words(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            initializer = tf.lookup.TextFileInitializer(
                str(words), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
            )
            self.table = tf.lookup.StaticHashTable(initializer, -1)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="words")])
        def score(self, words):
            return {"y": self.table.lookup(words)}

    source = _saved_model(tmp_path / "model", Words())
    hub = run_step("import_savedmodel", source, tmp_path / "hub")
    assert hub.error is None or hub.error["kind"] != "UntrustedError", hub.error
    saved = read_saved_model(source)
    saved.meta_graphs[0].asset_file_def[0].filename = "../../secret.txt"
    (source / "saved_model.pb").write_bytes(saved.SerializeToString())
    hub = run_step("import_savedmodel", source, tmp_path / "outside")
    assert hub.error["kind"] == "UntrustedError" and "../../secret.txt" in hub.error["message"]


def test_saved_model_of_tensorflow_1_that_acts_while_it_is_loaded(tmp_path: Path) -> None:
    pwned, folder = tmp_path / "pwned", tmp_path / "model"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 4), name="x")
        y = tf.identity(x * 2.0, name="y")
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}, main_op=tf.io.write_file(str(pwned), "x")
        )
        builder.save()
    hub = run_step("import_savedmodel", folder, tmp_path / "hub")
    assert hub.error["kind"] == "UntrustedError" and "WriteFile" in hub.error["message"]
    assert not pwned.exists()


def test_saved_model_of_both_kinds(tmp_path: Path) -> None:
    """With a second graph beside it, TensorFlow loads a graph as one of TensorFlow 1, although it has objects."""
    from tensorflow.core.protobuf import saved_model_pb2

    pwned, folder = tmp_path / "pwned", _saved_model(tmp_path / "model", Plain())
    with tf.Graph().as_default() as graph:
        tf.io.write_file(str(pwned), "x", name="act")
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    meta = saved.meta_graphs[0]
    meta.graph_def.node.extend(graph.as_graph_def().node)
    meta.collection_def["saved_model_main_op"].node_list.value[:] = ["act"]
    del meta.signature_def["__saved_model_init_op"]
    saved.meta_graphs.add().meta_info_def.tags.append("other")
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    hub = run_step("import_savedmodel", folder, tmp_path / "hub")
    assert not pwned.exists()
    assert hub.error is not None and hub.error["kind"] == "UntrustedError", hub.error
    assert "WriteFile" in hub.error["message"]


def test_checkpoint_that_restores_from_elsewhere(tmp_path: Path) -> None:
    """The restore operation of a .meta may name another file than the checkpoint's."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, (None, 4), name="x")
        weight = v1.get_variable("weight", initializer=np.eye(4, 3, dtype=np.float32), use_resource=False)
        tf.nn.softmax(x @ weight, name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model"), write_state=False)
    plain = run_step("import_checkpoint", tmp_path / "model.meta", tmp_path / "plain")
    assert plain.error is None, plain.error
    meta = v1.MetaGraphDef()
    meta.ParseFromString((tmp_path / "model.meta").read_bytes())
    restore = next(node for node in meta.graph_def.node if node.op == "RestoreV2")
    elsewhere = meta.graph_def.node.add(name="elsewhere", op="Const")
    elsewhere.attr["dtype"].type = tf.string.as_datatype_enum
    elsewhere.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "other")))
    restore.input[0] = "elsewhere"
    (tmp_path / "model.meta").write_bytes(meta.SerializeToString())
    hub = run_step("import_checkpoint", tmp_path / "model.meta", tmp_path / "hub")
    assert hub.error["kind"] == "UntrustedError" and "RestoreV2" in hub.error["message"]


def test_every_operator_that_sounds_like_it_is_known() -> None:
    """A newer TensorFlow's operators with such names are to be looked at, and to be put on one of the two lists."""
    import re

    from tensorflow.core.framework import node_def_pb2, op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    from converter.tf.trust.refused_operators import reaches_out

    operators = op_def_pb2.OpList()
    operators.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    sounds = re.compile(r"File|PyFunc|SaveV|Restore|Rpc|Sql|LMDB|TFRecord|FixedLength|ImmutableConst|Dump|RemoteCall")
    # The queue runners' and readers' bookkeeping, and what restores from a tensor.
    harmless = re.compile(r"FileSystem\w+|\w*TPU\w*|Reader\w*|DeleteRpcFutureResource|BoostedTrees\w*|ShardedFile\w+")
    unknown = [
        operator.name
        for operator in operators.op
        if sounds.search(operator.name)
        and not harmless.fullmatch(operator.name)
        and reaches_out(node_def_pb2.NodeDef(op=operator.name)) is None
    ]
    assert unknown == []
