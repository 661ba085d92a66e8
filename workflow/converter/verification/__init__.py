"""Whether a file computes what its source computes."""
