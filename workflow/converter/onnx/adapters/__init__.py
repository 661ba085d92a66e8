"""What changes about an operator from one opset to the next, one file per family."""
