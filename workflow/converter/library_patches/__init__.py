"""What this program replaces in libraries while it works, one module for each library, and the way to do it (replacing.py)."""
