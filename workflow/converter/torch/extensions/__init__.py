"""Libraries beside torch."""
