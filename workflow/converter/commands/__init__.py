"""What `python -m converter` does beside converting."""
