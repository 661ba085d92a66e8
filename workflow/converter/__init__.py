"""Converter: turns a trained model file into the file a device needs, and proves that it computes the same."""
