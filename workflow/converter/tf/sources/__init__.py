"""Keras files, SavedModels, checkpoints and frozen graphs, read into a hub."""
