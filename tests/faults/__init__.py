"""Kills and other faults in real runs: after each, right files or none, and one plain run that finishes the work."""
