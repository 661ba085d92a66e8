"""Well-known networks trained on scikit-learn's digits for a minute or two, so that their accuracy means something.

With random weights a deep network tells inputs apart by little more than noise, and quantization adds some.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def digits(channels_first: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training images, test images, training labels, test labels): float32 from -1 to 1, 32 x 32 pixels, 3 channels."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 8 - 1).astype(np.float32).reshape(-1, 8, 8)
    images = np.repeat(np.repeat(images, 4, axis=1), 4, axis=2)
    images = np.stack([images] * 3, axis=1 if channels_first else 3)
    return train_test_split(images, labels, test_size=360, random_state=1, stratify=labels)


def train_mobilenet_v2(path: Path, epochs: int = 25) -> None:
    """keras.applications' MobileNetV2, 3.5 million parameters, ten of its thousand classes used, as a Keras file."""
    import keras

    keras.utils.set_random_seed(1)
    train, _, labels, _ = digits(channels_first=False)
    model = keras.applications.MobileNetV2(input_shape=(32, 32, 3), weights=None)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # 0.999 is for more steps than these
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss="sparse_categorical_crossentropy")
    model.fit(train, labels, batch_size=64, epochs=epochs, verbose=0)
    model.save(path, include_optimizer=False)


def train_resnet18(path: Path, epochs: int = 4) -> None:
    """torchvision's resnet18 with ten classes, 11.2 million parameters, as a whole pickled module (.pt)."""
    import torch

    from converter.torch.extensions.vision import import_torchvision

    torchvision = import_torchvision()
    torch.manual_seed(1)
    train, _, labels, _ = digits(channels_first=True)
    model = torchvision.models.resnet18(num_classes=10).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    generator = torch.Generator().manual_seed(1)
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(64):
            loss = torch.nn.functional.cross_entropy(
                model(torch.from_numpy(train[rows.numpy()])), torch.from_numpy(labels[rows.numpy()])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(model.eval(), path)
