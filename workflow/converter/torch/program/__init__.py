"""Exported programs: their inputs, outputs, state and runs."""
