"""Sources and exporters that run in an isolated environment of their time."""
