"""TensorFlow graphs, and what is rewritten in them before any export."""
