"""A PyTorch exported program as a Keras 3 functional model, layer by layer; one file per family of operators."""

from converter.torch_to_keras.build import KerasConversion, build_keras_model

__all__ = ["KerasConversion", "build_keras_model"]
