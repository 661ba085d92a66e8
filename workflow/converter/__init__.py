"""Converter: turns a trained model file into the file a device or an engine needs, and proves that it computes the same."""
