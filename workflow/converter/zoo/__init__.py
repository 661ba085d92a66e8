"""Networks of the zoo's recipes (scripts/zoo_*.py)."""
