"""From the name of a target to what must be done: sources, parameters, variants, rebuild keys."""
