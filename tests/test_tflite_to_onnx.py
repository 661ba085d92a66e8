"""TensorFlow Lite files as ONNX models: onnxruntime gives what LiteRT gives, and damaged files end in a sentence."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from tflite_files import saved, single

from converter.errors import SourceError, UnsupportedError
from converter.tflite.flatbuffer import operators, read, schema
from converter.tflite_to_onnx import read_model
from converter.tflite_to_onnx.core.registry import supported
from converter.verification.runtimes import TFLiteModel

IMAGE = (2, 6, 8, 4)
FREE = (None, 6, 8, 4)


def weights(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def loop(x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 1.5 + tf.cast(i, tf.float32)), [0, x])[1]


def growing_loop(x: tf.Tensor) -> tf.Tensor:
    free = [tf.TensorShape([]), tf.TensorShape([None, *IMAGE[1:]])]
    return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.concat([y, y], 0)), [0, x], free)[1]


v1 = tf.compat.v1.image
FUNCTIONS: dict[str, tuple[Callable, tuple]] = {
    "conv same": (lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 5), 2, "SAME"), (None, 7, 8, 4)),
    "conv valid": (lambda x: tf.nn.conv2d(x, weights(3, 2, 4, 5), 3, "VALID"), FREE),
    "conv dilated": (lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 5), 1, "SAME", dilations=2), IMAGE),
    "conv groups": (lambda x: tf.nn.conv2d(x, weights(3, 3, 2, 6), 1, "SAME"), IMAGE),
    "conv free": (lambda x: tf.nn.conv2d(x, weights(3, 3, 4, 5), 2, "SAME"), (None, None, None, 4)),
    "depthwise": (lambda x: tf.nn.depthwise_conv2d(x, weights(3, 3, 4, 2), [1, 2, 2, 1], "SAME"), FREE),
    "transposed same": (lambda x: tf.nn.conv2d_transpose(x, weights(3, 3, 3, 4), [2, 11, 16, 3], 2, "SAME"), IMAGE),
    "transposed valid": (lambda x: tf.nn.conv2d_transpose(x, weights(2, 2, 3, 4), [2, 18, 24, 3], 3, "VALID"), IMAGE),
    "conv 3d": (lambda x: tf.nn.conv3d(x[..., None], weights(3, 3, 2, 1, 5), [1, 1, 2, 2, 1], "SAME"), IMAGE),
    "max pool": (lambda x: tf.nn.max_pool2d(x, 3, 2, "SAME"), FREE),
    "mean pool": (lambda x: tf.nn.avg_pool2d(x, 3, 2, "SAME"), FREE),
    "dense": (lambda x: tf.nn.relu(x @ weights(4, 5) + weights(5)), IMAGE),
    "product": (lambda x: tf.matmul(x, x * 2, transpose_b=True), IMAGE),
    "softmax": (tf.nn.softmax, IMAGE),
    "log softmax": (tf.nn.log_softmax, IMAGE),
    "gelu": (tf.nn.gelu, IMAGE),
    "hard swish": (lambda x: x * tf.nn.relu6(x + 3) / 6, IMAGE),
    "leaky": (lambda x: tf.nn.leaky_relu(x, 0.3), IMAGE),
    "rsqrt": (lambda x: tf.math.rsqrt(tf.abs(x) + 0.1), IMAGE),
    "unit": (lambda x: tf.nn.l2_normalize(x, -1), IMAGE),
    "response": (lambda x: tf.nn.local_response_normalization(x, 2, 1.0, 0.5, 0.75), IMAGE),
    "mean": (lambda x: tf.reduce_mean(x, [1, 2], keepdims=True), FREE),
    "any": (lambda x: tf.reduce_any(x > 1, 1), IMAGE),
    "largest": (lambda x: tf.argmax(x, 2), IMAGE),
    "top": (lambda x: tf.math.top_k(x, 3), IMAGE),
    "running sum": (lambda x: tf.cumsum(x, 2, exclusive=True, reverse=True), IMAGE),
    "reshape": (lambda x: tf.reshape(x, [tf.shape(x)[0], 8, -1]), FREE),
    "stack": (lambda x: tf.stack([x, x * 2], 2), FREE),
    "unstack": (lambda x: tf.unstack(x, axis=3), FREE),
    "split": (lambda x: tf.split(x, [1, 3, 2], 1), FREE),
    "pad": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 3], [1, 0]], constant_values=2.5), FREE),
    "mirror": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 3], [1, 0]], mode="SYMMETRIC"), FREE),
    "reflect": (lambda x: tf.pad(x, [[0, 0], [1, 2], [0, 3], [1, 0]], mode="REFLECT"), FREE),
    "blocks": (lambda x: tf.space_to_batch(x, [2, 2], [[1, 1], [0, 2]]), FREE),
    "back": (lambda x: tf.batch_to_space(tf.tile(x, [4, 1, 1, 1]), [2, 2], [[1, 0], [0, 2]]), FREE),
    "depth": (lambda x: tf.nn.space_to_depth(x, 2), FREE),
    "space": (lambda x: tf.nn.depth_to_space(x, 2), FREE),
    "slices": (lambda x: x[:, 1:5:2, ::-1, tf.newaxis, -1], FREE),
    "ellipsis": (lambda x: x[:, :, tf.newaxis, 2:, ..., :2], FREE),
    "gather": (lambda x: tf.gather(x, [[1, 0, 2], [3, 2, 1]], axis=2, batch_dims=1), IMAGE),
    "scatter": (lambda x: tf.scatter_nd([[1], [3], [1]], x[0, :3], [5, 8, 4]), IMAGE),
    "segments": (lambda x: tf.math.unsorted_segment_max(x[0], [0, 2, 0, 1, 0, 2], 3), IMAGE),
    "one hot": (lambda x: tf.one_hot(tf.cast(x * 2, tf.int32), 3, on_value=2.0, off_value=-1.0), IMAGE),
    "unique": (lambda x: tf.unique(tf.reshape(tf.round(x), [-1])), IMAGE),
    "where": (lambda x: tf.where(x > 1), IMAGE),
    "diagonal": (tf.linalg.diag, IMAGE),
    "bilinear": (lambda x: tf.image.resize(x, [12, 5]), FREE),
    "corners": (lambda x: v1.resize_bilinear(x, [11, 5], align_corners=True), FREE),
    "nearest": (lambda x: v1.resize_nearest_neighbor(x, [11, 5]), FREE),
    "nearest half": (lambda x: tf.image.resize(x, [13, 5], method="nearest"), FREE),
    "spectrum": (lambda x: tf.abs(tf.signal.rfft(x[:, :, 0, :])), IMAGE),
    "branch": (lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x - 1), IMAGE),
    "loop": (loop, FREE),
    "growing loop": (growing_loop, IMAGE),
    "quotient": (lambda x: tf.math.floordiv(tf.cast(x * 9, tf.int32), 4), IMAGE),
    "rest": (lambda x: tf.math.floormod(x, -0.7), IMAGE),
    "angle": (lambda x: tf.atan2(x, x * 2 - 1), IMAGE),
    "shift": (lambda x: tf.bitwise.right_shift(tf.cast(x * 99, tf.int32), 2), IMAGE),
}
QUANTIZED = (
    "conv same",
    "depthwise",
    "max pool",
    "mean pool",
    "softmax",
    "leaky",
    "mean",
    "split",
    "pad",
    "bilinear",
    "dense",
)


def convert(function: Callable, shape: tuple, kind: str = "float32") -> bytes:
    """kind: of the numbers; "int8" and its like of the inputs and outputs too."""
    spec = tf.TensorSpec(shape, tf.float32, "x")
    concrete = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    ops = tf.lite.OpsSet
    if kind == "float32":
        return converter.convert()
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    elif kind != "dynamic":
        rng = np.random.default_rng(0)
        fixed = [2 if size is None else size for size in shape]
        converter.representative_dataset = lambda: ([rng.normal(size=fixed).astype(np.float32)] for _ in range(8))
        wide = ops.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wide if kind == "int16" else ops.TFLITE_BUILTINS_INT8]
        if kind != "int8 inside":
            converter.inference_input_type = converter.inference_output_type = tf.dtypes.as_dtype(kind)
    return converter.convert()


def network() -> keras.Model:
    """Two branches that come together, a squeeze of the channels, a decoder, and a head."""
    keras.utils.set_random_seed(0)
    layers, x = keras.layers, keras.Input((8, 8, 3))
    first = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    h = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(first))
    h = layers.Add()([layers.Conv2D(8, 1)(h), first])
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(h))
    h = layers.UpSampling2D(2, interpolation="bilinear")(layers.MaxPooling2D()(layers.Multiply()([h, gate])))
    h = layers.Conv2DTranspose(4, 3, 2, padding="same")(layers.Concatenate()([h, first]))
    h = layers.Flatten()(layers.AveragePooling2D(3, 2, "same")(h))
    return keras.Model(x, layers.Dense(5)(layers.Dense(16, activation="tanh")(h)))


NETWORKS = ("float32", "float16", "dynamic", "int8", "uint8", "int8 inside", "int16")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tflite")
    model = network()
    made = {name: convert(*case) for name, case in FUNCTIONS.items()}
    made |= {f"{name} int8": convert(*FUNCTIONS[name], "int8") for name in QUANTIZED}
    made |= {f"network {kind}": convert(lambda x: model(x, training=False), (None, 8, 8, 3), kind) for kind in NETWORKS}
    paths = {name: folder / f"{name}.tflite" for name in made}
    for name, data in made.items():
        paths[name].write_bytes(data)
    return paths


def random_inputs(lite: TFLiteModel, free: int) -> list[np.ndarray]:
    rng, arrays = np.random.default_rng(0), []
    for spec in lite.inputs:
        shape = tuple(free if size is None else size for size in spec.shape)
        if spec.dtype == "float32":
            arrays.append(rng.normal(size=shape).astype(np.float32))
        else:
            limits = np.iinfo(spec.dtype)
            arrays.append(rng.integers(limits.min, limits.max, shape, spec.dtype, endpoint=True))
    return arrays


def run(model: onnx.ModelProto, arrays: list[np.ndarray]) -> list[np.ndarray]:
    # It would quantize float weights between quantized tensors (onnxruntime 1.32).
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"], disabled_optimizers=["WeightBiasQuantization"]
    )
    return session.run(None, dict(zip([entry.name for entry in session.get_inputs()], arrays, strict=True)))


def check(path: Path, tolerance: float = 2e-5, steps: int = 1, free: int = 3) -> onnx.ModelProto:
    """tolerance: of floats, relative to the largest; steps: of quantized outputs."""
    model, lite = read_model(path), TFLiteModel(path)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.name for entry in model.graph.input] == [spec.name for spec in lite.inputs]
    assert [entry.name for entry in model.graph.output] == [spec.name for spec in lite.outputs]
    arrays = random_inputs(lite, free)
    for found, expected, (scale, _) in zip(run(model, arrays), lite.run(arrays), lite.output_quantization, strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * (1 + np.abs(expected).max(initial=0)))
        else:
            off = np.abs(found.astype(np.int64) - expected.astype(np.int64))
            assert off.max(initial=0) <= (steps if scale else 0)
    return model


@pytest.mark.parametrize("name", FUNCTIONS)
def test_onnxruntime_gives_what_litert_gives(files, name):
    check(files[name])


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_operators_are_within_one_step(files, name):
    check(files[f"{name} int8"])


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_keeps_its_types_and_values(files, kind):
    # LiteRT's dynamic-range kernels quantize what goes into them. Its integer kernels round halves away from zero, ONNX to even:
    # single steps, which the last layers add up.
    tolerance = {"dynamic": 5e-3, "int8 inside": 5e-2, "int16": 1e-3}.get(kind, 2e-5)
    model = check(files[f"network {kind}"], tolerance, steps=10)
    # The input becomes channels-first, and the features channels-last again before they are flattened.
    assert [node.op_type for node in model.graph.node].count("Transpose") == 2
    assert model.opset_import[0].version == (21 if kind == "int16" else 17)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].WhichOneof("value") is None


def test_a_loop_that_counts_needs_no_condition(files):
    (node,) = (node for node in read_model(files["loop"]).graph.node if node.op_type == "Loop")
    assert node.input[0] and not node.input[1]


def lstm(variant: str, clip: float) -> schema.ModelT:
    rng, units, features = np.random.default_rng(0), 4, 3

    def some(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    gates: list[np.ndarray | None] = [some(units, features) for _ in range(4)]
    gates += [some(units, units) for _ in range(4)]
    gates += [some(units) if variant == "peepholes" else None for _ in range(3)]
    gates += [some(units) for _ in range(4)]
    if variant == "coupled":
        gates[0] = gates[4] = gates[8] = gates[11] = None
    states = [np.zeros((2, units), np.float32)] * 2
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    return single(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        {"x": (2, 12, features), "y": (2, 12, units)},
        [*gates, None, None, *states],
        options,
        cellClip=clip,
        fusedActivationFunction=1 if variant == "relu" else 4,
    )


@pytest.mark.parametrize("clip", [0.0, 0.3, 12.0])
@pytest.mark.parametrize("variant", ["plain", "peepholes", "coupled", "relu"])
def test_a_fused_lstm(tmp_path, variant, clip):
    path = saved(tmp_path, lstm(variant, clip))
    kinds = {node.op_type for node in check(path).graph.node}
    # A cell that tanh bounds cannot reach 12 in 12 steps.
    assert ("Scan" in kinds) == (clip > 0 and not (clip == 12 and variant != "relu"))


def test_a_simple_recurrent_layer(tmp_path):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (4, 4), (4,))]
    options = schema.SequenceRNNOptionsT()
    shapes = {"x": (2, 7, 3), "y": (2, 7, 4)}
    model = single("UNIDIRECTIONAL_SEQUENCE_RNN", shapes, [*parts, np.zeros((2, 4), np.float32)], options)
    options.fusedActivationFunction = schema.ActivationFunctionType.TANH
    check(saved(tmp_path, model))


def test_weights_of_four_bits(tmp_path):
    numbers = np.arange(-8, 7, dtype=np.int8).reshape(3, 5)
    packed = np.append(numbers.reshape(-1), np.int8(0)).view(np.uint8)
    packed = ((packed[0::2] & 15) | (packed[1::2] << 4)).view(np.int8)
    model = single("FULLY_CONNECTED", {"x": (2, 5), "y": (2, 3)}, [packed], schema.FullyConnectedOptionsT())
    tensor = model.subgraphs[0].tensors[1]
    tensor.type, tensor.shape = schema.TensorType.INT4, np.array([3, 5], np.int32)
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = np.float32([0.5, 0.25, 2]), np.zeros(3, np.int64)
    x = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    (found,) = run(read_model(saved(tmp_path, model)), [x])
    np.testing.assert_allclose(found, x @ (numbers * np.float32([[0.5], [0.25], [2]])).T, rtol=1e-5)


def test_l2_pooling(tmp_path):
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = 3
    options.strideH = options.strideW = 2
    check(saved(tmp_path, single("L2_POOL_2D", {"x": (1, 5, 6, 2), "y": (1, 3, 3, 2)}, [], options)))


@pytest.mark.parametrize("name", ["conv same int8", "branch", "growing loop", "slices"])
def test_flipped_bytes_end_in_a_sentence_or_a_model(files, tmp_path, name):
    whole, generator = files[name].read_bytes(), random.Random(0)
    path, read_again = tmp_path / "x.tflite", 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 2, 8))):
            data[generator.randrange(len(data))] = generator.choice((0, 1, 127, 255, generator.randrange(256)))
        path.write_bytes(data)
        try:
            read_again += isinstance(read_model(path), onnx.ModelProto)
        except (SourceError, UnsupportedError) as error:
            assert str(error)
    assert read_again


def test_every_operator_of_the_made_files_is_known(files):
    found = {name for path in files.values() for _, _, name in operators(read(path.read_bytes()))}
    assert found <= supported()
