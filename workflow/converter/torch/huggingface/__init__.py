"""Directories of Hugging Face and of timm: a configuration with its weights, as a module with the inputs of its kind."""
