"""Graphs, the places in them, and which adapter is for which operator: what the adapters build on."""
