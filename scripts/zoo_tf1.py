"""Make a TensorFlow 1 model: zoo_tf1.py --recipe=tf1 --name=squeezenet_tf1 --weights=random OUTPUT(.pb|.meta|directory).

The original tool's lists name files that were downloads: frozen graphs, checkpoints and SavedModels of TensorFlow 1. These
recipes build the same architectures with the same operators, input and output names, and seeded weights: a network of
tf_keras layers, calibrated as in zoo_keras.py, inside a graph of tf.compat.v1 with what the original had around it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import tensorflow as tf
import tf_keras as keras

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from converter.zoo.ssd import ssd_graph, ssd_network
from converter.zoo.tf1_networks import calibrate, classifier, recurrent, squeezenet

tf1 = tf.compat.v1
_SEED = 7


@dataclass(frozen=True)
class Recipe:
    """network: the trained part, made eagerly. graph: placeholders, the network (called) and what follows; its tensors."""

    network: Callable[[], keras.Model]
    graph: Callable[[Callable], tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]]


def _image(name: str, size: int = 224) -> tf.Tensor:
    return tf1.placeholder(tf.float32, [None, size, size, 3], name=name)


def _softmax_tensor(network: Callable) -> tuple[dict, dict]:
    """Input and output names of TensorFlow's official ResNet, which densenet and squeezenet share."""
    image = _image("Placeholder")
    logits = network(image)
    classes = tf.argmax(logits, axis=1, name="ArgMax")
    return {"image": image}, {"probabilities": tf.nn.softmax(logits, name="softmax_tensor"), "classes": classes}


def _slim(scope: str, image: Callable[[], tf.Tensor]) -> Callable:
    """The end of TF-Slim's classifiers: logits of shape (N, 1, 1, classes), squeezed, reshaped around the softmax."""

    def graph(network: Callable) -> tuple[dict, dict]:
        tensor = image()
        logits = tf.squeeze(network(tensor), [1, 2], name=f"{scope}/Logits/SpatialSqueeze")
        flat = tf.reshape(logits, [-1, logits.shape[-1]], name=f"{scope}/Predictions/Reshape")
        soft = tf.nn.softmax(flat, name=f"{scope}/Predictions/Softmax")
        answer = tf.reshape(soft, tf.shape(logits), name=f"{scope}/Predictions/Reshape_1")
        return {"image": tensor}, {"predictions": answer}

    return graph


def _queue() -> tf.Tensor:
    """The `batch` of a training graph: what a queue hands out, not a placeholder."""
    image = tf.random.uniform([224, 224, 3], name="image")
    return tf1.train.batch([image], batch_size=1, name="batch")


def _nasnet(network: Callable) -> tuple[dict, dict]:
    image = _image("input")
    return {"image": image}, {"predictions": tf.nn.softmax(network(image), name="final_layer/predictions")}


def _text(network: Callable) -> tuple[dict, dict]:
    """The names that the original's Keras models of TensorFlow 1 had."""
    tokens = tf1.placeholder(tf.float32, [None, 53], name="embedding_input")
    logits = network(tokens)
    return {"tokens": tokens}, {"logits": tf.identity(logits, name="dense/BiasAdd")}


def _features(size: int) -> Callable:
    def graph(network: Callable) -> tuple[dict, dict]:
        image = _image("input", size)
        return {"input": image}, {"output": tf.identity(network(image), name="output")}

    return graph


_APPLICATIONS = keras.applications
RECIPES = {
    "densenet": Recipe(lambda: classifier(_APPLICATIONS.DenseNet121, 1001), _softmax_tensor),
    "squeezenet": Recipe(lambda: squeezenet(1001), _softmax_tensor),
    "nasnet_mobile": Recipe(lambda: classifier(_APPLICATIONS.NASNetMobile, 1001), _nasnet),
    "inception_v3": Recipe(
        lambda: classifier(_APPLICATIONS.InceptionV3, 1001, size=299, conv=True),
        _slim("InceptionV3", lambda: _image("input", 299)),
    ),
    "mobilenet_v1_0.25_224": Recipe(
        lambda: classifier(_APPLICATIONS.MobileNet, 1001, conv=True, alpha=0.25),
        _slim("MobilenetV1", lambda: _image("input")),
    ),
    "mobilenet_v1_0.25_224_queue": Recipe(
        lambda: classifier(_APPLICATIONS.MobileNet, 1001, conv=True, alpha=0.25), _slim("MobilenetV1", _queue)
    ),
    "ssd_mobilenet_v1": Recipe(lambda: ssd_network(_APPLICATIONS.MobileNet), ssd_graph),
    "ssd_mobilenet_v2": Recipe(lambda: ssd_network(_APPLICATIONS.MobileNetV2), ssd_graph),
    "resnet_50": Recipe(lambda: classifier(_APPLICATIONS.ResNet50, 1001), _features(224)),
    "efficientnet_b1": Recipe(lambda: classifier(_APPLICATIONS.EfficientNetB1, None, size=240), _features(240)),
    "lstm": Recipe(lambda: recurrent(keras.layers.LSTM), _text),
    "gru": Recipe(lambda: recurrent(keras.layers.GRU), _text),
}


def write(recipe: Recipe, output: Path) -> None:
    """Build the graph and write it as what `output` names: a frozen graph, a checkpoint, or a SavedModel directory."""
    tf1.disable_control_flow_v2()  # loops of Enter, Exit, Merge and Switch, as in the original files
    keras.utils.set_random_seed(_SEED)
    network = recipe.network()
    calibrate(network, _SEED)
    values, config = network.get_weights(), network.get_config()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default() as graph, tf1.Session() as session:
        rebuilt = type(network).from_config(config)
        inputs, outputs = recipe.graph(lambda tensor: rebuilt(tensor, training=False))
        session.run(tf1.global_variables_initializer())
        for variable, value in zip(rebuilt.weights, values, strict=True):
            variable.load(value, session)  # set_weights would leave a placeholder for each in the graph
        if output.suffix == ".pb":
            names = [tensor.op.name for tensor in outputs.values()]
            frozen = tf1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), names)
            output.write_bytes(frozen.SerializeToString(deterministic=True))
        elif output.suffix == ".meta":
            saver = tf1.train.Saver()
            saver.save(session, str(output.with_suffix("")), write_state=False)
        else:
            tf1.saved_model.simple_save(session, str(output), inputs, outputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=("tf1",), default="tf1")
    parser.add_argument("--name", required=True, help="for messages")
    parser.add_argument("--network", choices=sorted(RECIPES), required=True)
    parser.add_argument("--weights", choices=("random", "pretrained"), default="random")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    if args.weights == "pretrained":
        raise SystemExit(f"{args.name} has no pretrained weights: write zoo: {{weights: random}}")
    write(RECIPES[args.network], args.output)


if __name__ == "__main__":
    sys.exit(main())
