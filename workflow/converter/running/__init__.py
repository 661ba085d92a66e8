"""The processes of a run: steps, their limits, forked helpers, messages."""
