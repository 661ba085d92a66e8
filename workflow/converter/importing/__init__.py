"""What importers of all frameworks share: the user's own scripts."""
