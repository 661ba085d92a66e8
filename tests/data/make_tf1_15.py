"""Make tf1_15/: what TensorFlow 1.15 itself writes. Run once, in Python 3.7 with tensorflow 1.15.5 and numpy 1.18.5.

    python tests/data/make_tf1_15.py     (in this repository's root)

A classifier with batch normalisation and dropout behind a training flag that defaults to true: as a SavedModel, as a
checkpoint at steps 100 and 200, and as a tf.keras .h5. answers.npz holds inputs and TensorFlow 1.15's own outputs.
"""

import os
import shutil

import numpy as np
import tensorflow as tf

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tf1_15")


def network(training):
    image = tf.placeholder(tf.float32, (None, 8, 8, 3), name="image")
    hidden = tf.layers.conv2d(image, 6, 3, activation=tf.nn.relu)
    hidden = tf.layers.batch_normalization(hidden, training=training)
    hidden = tf.layers.dropout(tf.reduce_mean(hidden, [1, 2]), 0.5, training=training)
    return image, tf.identity(tf.layers.dense(hidden, 4), name="scores")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    images = np.random.RandomState(0).randn(3, 8, 8, 3).astype(np.float32)
    answers = {"image": images}
    tf.set_random_seed(1)
    np.random.seed(1)
    training = tf.placeholder_with_default(True, (), name="is_training")
    image, scores = network(training)
    saver = tf.train.Saver()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        moving = [v for v in tf.global_variables() if "moving" in v.name]
        session.run([tf.assign(v, np.random.rand(*v.shape.as_list()) + 0.5) for v in moving])
        for step in (100, 200):
            saver.save(session, os.path.join(FOLDER, "model"), global_step=step)
            answers[f"scores_{step}"] = session.run(scores, {image: images, training: False})
            if step == 100:
                tf.saved_model.simple_save(
                    session, os.path.join(FOLDER, "saved_model"), {"image": image}, {"scores": scores}
                )
                session.run([tf.assign(v, v * 1.5) for v in tf.trainable_variables()])
    tf.reset_default_graph()
    tf.keras.backend.clear_session()
    tf.set_random_seed(2)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Conv2D(4, 3, input_shape=(8, 8, 3)),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Reshape((6, 24)),
            layers.Bidirectional(layers.LSTM(5)),
            layers.Dense(3),
        ]
    )
    model.compile("adam", "mse")
    model.fit(images, np.random.rand(3, 3), epochs=2, verbose=0)
    model.save(os.path.join(FOLDER, "keras.h5"))
    answers["keras"] = model.predict(images)
    with open(os.path.join(FOLDER, "checkpoint")) as state:  # as if it had been trained on another machine
        text = state.read().replace(FOLDER, "/home/trainer/run")
    with open(os.path.join(FOLDER, "checkpoint"), "w") as state:
        state.write(text)
    np.savez(os.path.join(FOLDER, "answers.npz"), **answers)


if __name__ == "__main__":
    main()
