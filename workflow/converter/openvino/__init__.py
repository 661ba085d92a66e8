"""Intermediate representation (IR) of OpenVINO."""
