"""How much of a model its reference exercises: coverage by gradients in the source framework, and the weakest spots."""
