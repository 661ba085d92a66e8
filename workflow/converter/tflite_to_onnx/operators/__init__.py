"""The operators of TensorFlow Lite, one file for each family."""
