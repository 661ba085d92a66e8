"""Reports, and what a user reads of them."""
