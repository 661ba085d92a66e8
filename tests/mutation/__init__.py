"""Seeded faults in exported files: which of them verification would let through (python -m mutation --help)."""
