"""Malformed model files by the thousand, each given to its import step in a process of its own (python -m fuzz --help)."""
