"""Values, and what an operator is given: what all families of operators build on."""
