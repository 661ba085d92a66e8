"""The TensorFlow side: sources into the hub (freezing without ever holding weights in a graph), and the hub's exporters."""
