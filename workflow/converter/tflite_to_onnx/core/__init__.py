"""The ONNX graph that is being written, values, and which function writes an operator: what the operators build on."""
