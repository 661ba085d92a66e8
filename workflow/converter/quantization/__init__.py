"""Float files made smaller, and what that costs."""
