"""Models that nobody here wrote, with seeded weights: which of them convert, and which do by the official routes."""
