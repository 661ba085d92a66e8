"""Operators that exporters get wrong, replaced before any export."""
