"""The version of Converter, here only. CHANGELOG.md says what it brings, CONTRIBUTING.md when it moves."""

__all__ = ["__version__"]

__version__ = "0.2.0.dev0"
