"""PyTorch files, read and traced into a hub."""
