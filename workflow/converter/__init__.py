"""Converter: turns a trained model file into the file a device needs, and proves that it computes the same."""

__all__ = ["convert"]


def __getattr__(name: str) -> object:
    # Steps import this package too, and none of them needs what convert() does.
    if name == "convert":
        from converter.api import convert

        return convert
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
