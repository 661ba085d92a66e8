"""What outlives one process of a run: its lock, and the sentences of what failed."""
