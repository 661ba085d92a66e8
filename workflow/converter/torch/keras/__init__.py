"""PyTorch programs to Keras files."""
