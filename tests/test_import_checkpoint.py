"""TF1 checkpoints into the hub: training graphs with flags, savers and optimizers in them."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from imports import imported, names, no_large_constants, refused, run_graph

SCRIPT = "import_checkpoint"
v1 = tf.compat.v1


def _network(resource: bool, controls: bool):
    """A training graph: batch normalization and dropout under a flag, a partitioned variable, Adam, a summary."""
    (v1.enable_control_flow_v2 if controls else v1.disable_control_flow_v2)()
    v1.set_random_seed(3)
    x = v1.placeholder(tf.float32, [None, 8, 8, 3], name="images")
    labels = v1.placeholder(tf.int64, [None], name="labels")
    flag = v1.placeholder(tf.bool, name="is_training")
    normal, uniform = v1.random_normal_initializer(), v1.random_uniform_initializer(0.5, 2)
    with v1.variable_scope("net", use_resource=resource):
        h = tf.nn.conv2d(x, v1.get_variable("w", [3, 3, 3, 8]), 1, "SAME")
        gamma = v1.get_variable("gamma", [8], initializer=uniform)
        beta = v1.get_variable("beta", [8], initializer=normal)
        mean = v1.get_variable("mean", [8], initializer=normal, trainable=False)
        variance = v1.get_variable("variance", [8], initializer=uniform, trainable=False)

        def training():
            m, v = tf.nn.moments(h, [0, 1, 2])
            with tf.control_dependencies([v1.assign(mean, mean * 0.9 + m * 0.1), v1.assign(variance, v)]):
                return tf.identity(m), tf.identity(v)

        m, v = tf.cond(flag, training, lambda: (tf.identity(mean), tf.identity(variance)))
        h = tf.nn.relu(tf.nn.batch_normalization(h, m, v, beta, gamma, 1e-3))
        h = tf.cond(tf.logical_not(flag), lambda: h, lambda: tf.nn.dropout(h, rate=0.5))
        h = tf.reduce_mean(h, [1, 2])
        with v1.variable_scope("part", partitioner=v1.fixed_size_partitioner(2)):
            h = tf.tanh(h @ tf.convert_to_tensor(v1.get_variable("w", [8, 40])))
        h = tf.matmul(h, v1.get_variable("wide", [40, 500]))
        logits = tf.matmul(h, v1.get_variable("out", [500, 3]), name="logits")
    tf.nn.softmax(logits, name="prob")
    tf.math.top_k(logits, 2, name="top")
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), name="loss")
    v1.summary.scalar("loss_value", loss)
    v1.train.AdamOptimizer().minimize(loss)


IMAGES = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)


def _save(folder: Path, resource: bool = False, controls: bool = False) -> dict[int, np.ndarray]:
    """model-100 and model-200 with other weights; what each answers to IMAGES, by its step."""
    graph, answers = tf.Graph(), {}
    with graph.as_default():
        _network(resource, controls)
        saver = v1.train.Saver()
        scale = [variable.assign(variable * 1.5) for variable in v1.trainable_variables()]
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            for step in (100, 200):
                saver.save(session, str(folder / "model"), global_step=step)
                answers[step] = session.run("prob:0", {"images:0": IMAGES, "is_training:0": False})
                session.run(scale)
    v1.disable_control_flow_v2()
    return answers


# A TF1 reference variable cannot be assigned inside the functions of TF2's control flow.
VARIANTS = pytest.mark.parametrize(
    ("resource", "controls"), [(False, False), (True, False), (True, True)], ids=["reference", "resource", "functional"]
)


@VARIANTS
def test_a_training_graph_becomes_its_inference(resource, controls, tmp_path):
    answers = _save(tmp_path, resource, controls)
    for step in (100, 200):
        source = tmp_path / f"model-{step}.meta"
        hub = imported(SCRIPT, source, tmp_path / f"hub{step}", output_nodes="prob:0,top:1")
        assert names(hub.inputs) == ["images"]
        assert names(hub.outputs) == ["prob", "top:1"]
        assert hub.outputs[1].dtype == "int32"
        np.testing.assert_allclose(run_graph(hub, [IMAGES])[0], answers[step], rtol=1e-5, atol=1e-6)
        assert "is_training:0 was set to false (it selects training)" in hub.notes
        # Nothing of the other branch is left.
        assert not {"Switch", "Merge", "If", "StatelessIf", "RandomUniform", "Assign"} & set(hub.operators)
        assert no_large_constants(hub)
        assert hub.parameters_count == 3 * 3 * 3 * 8 + 4 * 8 + 8 * 40 + 40 * 500 + 500 * 3
    assert np.abs(answers[100] - answers[200]).max() > 0.01


@pytest.mark.parametrize("state", [None, 'model_checkpoint_path: "/home/nobody/runs/7/model-200"\n', "garbage"])
def test_the_checkpoint_file_is_not_asked(state, tmp_path):
    answers = _save(tmp_path)
    (tmp_path / "checkpoint").unlink()
    if state is not None:
        (tmp_path / "checkpoint").write_text(state)
    hub = imported(SCRIPT, tmp_path / "model-100.meta", tmp_path / "hub", output_nodes="prob")
    np.testing.assert_allclose(run_graph(hub, [IMAGES])[0], answers[100], rtol=1e-5, atol=1e-6)


def test_stale_output_shapes_do_not_matter(tmp_path):
    _save(tmp_path)
    path = tmp_path / "model-100.meta"
    meta = v1.MetaGraphDef()
    meta.ParseFromString(path.read_bytes())
    for node in meta.graph_def.node:
        if node.op == "MatMul":
            shape = node.attr["_output_shapes"].list.shape.add()
            shape.dim.add().size = 7
        node.device = "/device:GPU:3"
    path.write_bytes(meta.SerializeToString())
    imported(SCRIPT, path, tmp_path / "hub", output_nodes="prob")


def test_inputs_and_outputs_that_need_the_user(tmp_path):
    _save(tmp_path)
    source, hub = tmp_path / "model-100.meta", tmp_path / "hub"
    message = refused(SCRIPT, source, hub)
    assert "output_nodes" in message
    assert "prob [-1,3]" in message
    message = refused(SCRIPT, source, hub, output_nodes="prop")
    assert "did you mean prob" in message
    assert "which has 2 outputs" in refused(SCRIPT, source, hub, output_nodes="top:2")
    message = refused(SCRIPT, source, hub, output_nodes="loss", input_nodes="images")
    assert "labels (int64 [-1])" in message
    assert "constants" in message
    assert "no placeholder is_trainin" in refused(
        SCRIPT, source, hub, output_nodes="prob", constants={"is_trainin:0": False}
    )
    message = refused(SCRIPT, source, hub, output_nodes="prob", input_nodes="images", constants={"images": 1})
    assert "one of the input_nodes too" in message
    both = imported(SCRIPT, source, hub, output_nodes="loss")
    assert names(both.inputs) == ["images", "labels"]


def test_the_graph_can_be_cut_inside(tmp_path):
    _save(tmp_path)
    hub = imported(
        SCRIPT,
        tmp_path / "model-100.meta",
        tmp_path / "hub",
        input_nodes="net/Relu:0",
        output_nodes="prob",
        input_shape="2,8,8,8",
    )
    assert names(hub.inputs) == ["net/Relu"]
    assert hub.inputs[0].shape == (2, 8, 8, 8)
    assert "Conv2D" not in hub.operators


def _graph(folder: Path, build) -> Path:
    """Save the graph that `build` makes; the names it returns are ignored."""
    with tf.Graph().as_default(), v1.Session() as session:
        v1.disable_control_flow_v2()
        v1.set_random_seed(5)
        build()
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        v1.train.Saver().save(session, str(folder / "model"))
    return folder / "model.meta"


def test_an_inference_graph_needs_no_names(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [None, 4], name="features")
        flag = v1.placeholder_with_default(True, [], name="train_mode")
        h = tf.tanh(x)
        h = tf.cond(flag, lambda: h * 0.0, lambda: h)
        w = v1.get_variable("w", [int(h.shape[-1]), 2])
        tf.identity(h @ w, name="scores")

    hub = imported(SCRIPT, _graph(tmp_path, build), tmp_path / "hub")
    assert names(hub.inputs) == ["features"]
    assert names(hub.outputs) == ["scores"]
    assert "train_mode:0 was set to false (it selects training)" in hub.notes
    assert np.abs(hub.reference()[0].outputs[0]).max() > 0.01


def test_a_dropout_rate_must_be_given(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, [None, 40], name="x")
        keep = v1.placeholder(tf.float32, [], name="keep_prob")
        w = v1.get_variable("w", [40, 3])
        tf.identity(v1.nn.dropout(x @ w, keep_prob=keep), name="y")

    source = _graph(tmp_path, build)
    message = refused(SCRIPT, source, tmp_path / "hub")
    assert 'constants: {"keep_prob:0": 1.0}' in message
    hub = imported(SCRIPT, source, tmp_path / "hub", constants={"keep_prob:0": 1.0})
    assert names(hub.inputs) == ["x"]


def test_shapes_that_the_graph_does_not_say(tmp_path):
    def build():
        x = v1.placeholder(tf.float32, name="x")
        w = v1.get_variable("w", [4, 3])
        tf.matmul(x, w, name="y")

    source = _graph(tmp_path, build)
    assert "give input_shape" in refused(SCRIPT, source, tmp_path / "hub")
    hub = imported(SCRIPT, source, tmp_path / "hub", input_shape="-1,4")
    assert hub.inputs[0].shape == (None, 4)
    assert hub.outputs[0].shape == (None, 3)


def test_a_recurrent_network_of_tf1(tmp_path):
    """Enter, Merge, NextIteration; an embedding whose rows bound the numbers fed."""

    def build():
        ids = v1.placeholder(tf.int32, [None, 5], name="ids")
        embedded = tf.nn.embedding_lookup(v1.get_variable("table", [12, 4]), ids)
        w = v1.get_variable("w", [8, 4])
        time_major = tf.transpose(embedded, [1, 0, 2])
        steps = tf.shape(time_major)[0]
        _, state = tf.while_loop(
            lambda step, _: step < steps,
            lambda step, state: (step + 1, tf.tanh(tf.concat([time_major[step], state], 1) @ w)),
            (0, tf.zeros_like(time_major[0])),
        )
        tf.identity(state, name="state")

    hub = imported(SCRIPT, _graph(tmp_path, build), tmp_path / "hub")
    assert hub.extra["vocabulary"] == {"ids": 12}
    assert "Enter" in hub.operators
    assert np.ptp(hub.reference()[1].outputs[0], axis=0).max() > 0.01


def test_variables_saved_under_other_names(tmp_path):
    """A saver of moving averages: the entry has another name than the variable."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        w = v1.get_variable("w", [2, 3], use_resource=False)
        tf.matmul(x, w, name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver({"w/ExponentialMovingAverage": w}).save(session, str(tmp_path / "model"))
        data = np.ones((1, 2), np.float32)
        expected = session.run("y:0", {"x:0": data})
    hub = imported(SCRIPT, tmp_path / "model.meta", tmp_path / "hub")
    np.testing.assert_allclose(run_graph(hub, [data])[0], expected, rtol=1e-6)
    assert not any("average" in decision for decision in hub.decisions)


def test_plain_values_beside_their_averages_are_said(tmp_path):
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        w = v1.get_variable("w", [2, 3], use_resource=False)
        tf.matmul(x, w, name="y")
        average = tf.train.ExponentialMovingAverage(0.5)
        update = average.apply([w])
        session.run(v1.global_variables_initializer())
        session.run(w.assign(w * 2))
        session.run(update)
        v1.train.Saver().save(session, str(tmp_path / "model"))
        data = np.ones((1, 2), np.float32)
        expected = session.run("y:0", {"x:0": data})
    hub = imported(SCRIPT, tmp_path / "model.meta", tmp_path / "hub", output_nodes="y")
    np.testing.assert_allclose(run_graph(hub, [data])[0], expected, rtol=1e-6)
    assert hub.decisions == ["weights: plain values, not their moving averages"]
    assert any("w/ExponentialMovingAverage" in note for note in hub.notes)


def test_damaged_and_missing_files(tmp_path):
    _save(tmp_path)
    source, hub = tmp_path / "model-100.meta", tmp_path / "hub"
    data_file = next(tmp_path.glob("model-100.data-*"))
    whole = data_file.read_bytes()
    data_file.write_bytes(whole[: len(whole) // 2])
    message = refused(SCRIPT, source, hub, output_nodes="prob")
    assert "damaged" in message
    data_file.write_bytes(whole)
    (tmp_path / "model-100.index").unlink()
    assert "model-100.index" in refused(SCRIPT, source, hub, output_nodes="prob")
    source.write_bytes(source.read_bytes()[:1000])
    assert "copy it again" in refused(SCRIPT, source, hub, output_nodes="prob")
    source.write_bytes(b"")
    assert "copy it again" in refused(SCRIPT, source, hub, output_nodes="prob")


def test_a_checkpoint_of_tensorflow_2_has_no_graph(tmp_path):
    tf.train.Checkpoint(w=tf.Variable([1.0])).write(str(tmp_path / "ckpt"))
    message = refused(SCRIPT, tmp_path / "ckpt.index", tmp_path / "hub")
    assert "without a graph" in message
    assert "SavedModel" in message


def test_the_same_source_gives_the_same_bytes(tmp_path):
    _save(tmp_path)
    hubs = [imported(SCRIPT, tmp_path / "model-100.meta", tmp_path / name, output_nodes="prob") for name in ("a", "b")]
    for name in ("graph.pb", "weights.safetensors"):
        assert (hubs[0].path / name).read_bytes() == (hubs[1].path / name).read_bytes()


def _saved(folder: Path, shape: tuple[int, int], dtype: tf.DType = tf.float32, change=lambda meta: None) -> Path:
    """The .meta of a checkpoint with one variable."""
    folder.mkdir()
    with tf.Graph().as_default(), v1.Session() as session:
        weight = v1.get_variable("weight", initializer=tf.ones(shape, dtype), use_resource=False)
        tf.nn.softmax(v1.placeholder(dtype, (None, shape[0]), name="x") @ weight, name="y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "model"), write_state=False)
    meta = v1.MetaGraphDef.FromString((folder / "model.meta").read_bytes())
    change(meta)
    (folder / "model.meta").write_bytes(meta.SerializeToString())
    return folder / "model.meta"


@pytest.mark.parametrize(("shape", "dtype"), [((3, 4), tf.float32), ((4, 3), tf.float64)])
def test_values_that_are_not_the_variables(shape, dtype, tmp_path):
    """They were frozen as they are, and the graph then raised an error of TensorFlow's."""
    source, other = _saved(tmp_path / "one", (4, 3)), _saved(tmp_path / "two", shape, dtype)
    other.unlink()
    for file in other.parent.iterdir():
        file.replace(source.parent / file.name)
    message = refused(SCRIPT, source, tmp_path / "hub")
    assert f"{dtype.name} {list(shape)}" in message and "float32 (4, 3)" in message


def test_saved_parts_that_are_none(tmp_path):
    def change(meta):
        save = next(node for node in meta.graph_def.node if node.op == "SaveV2")
        pieces = next(node for node in meta.graph_def.node if node.name == save.input[2])
        pieces.attr["value"].tensor.string_val[:] = [b"all of it"]

    assert "'all of it'" in refused(SCRIPT, _saved(tmp_path / "part", (4, 3), change=change), tmp_path / "hub")


def test_a_folder_of_the_checkpoints_name_is_not_asked(tmp_path):
    """TensorFlow takes it for a folder of checkpoints, whose newest may lie anywhere."""
    source = _saved(tmp_path / "one", (4, 3))
    elsewhere = _saved(tmp_path / "two", (3, 4)).with_suffix("")
    folder = source.with_suffix("")
    folder.mkdir()
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{elsewhere}"\n')
    imported(SCRIPT, source, tmp_path / "hub")
