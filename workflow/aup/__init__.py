"""The original tool's package name, for the commands its users know."""
