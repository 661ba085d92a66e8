"""A mistake or a limit that the user can act on; `kind` is the name of the class that the modern side raises."""

__all__ = ["LegacyError"]


class LegacyError(Exception):
    def __init__(self, kind, message):
        # type: (str, str) -> None
        super().__init__(message)
        self.kind = kind
