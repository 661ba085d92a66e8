"""Graphs run in TensorFlow, to compare with."""
