"""ONNX models as modules of torch, from which torch.export and torch_to_keras lead to every target of PyTorch sources."""
