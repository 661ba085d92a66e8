"""Profiles of devices: what they take, and whether a file fits."""
