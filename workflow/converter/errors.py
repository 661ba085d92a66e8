"""Errors for the person at the shell: one sentence that says what is wrong, where, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConverterError",
    "ParameterError",
    "SourceError",
    "UnsupportedError",
    "UntrustedError",
    "VerificationError",
    "nearest",
]


class ConverterError(Exception):
    """A mistake of the user's or a limit of the model; never a defect of this program."""


class SourceError(ConverterError):
    """The source file is missing, ambiguous, damaged, or not of the format its name says."""


class ParameterError(ConverterError):
    """A parameter is missing, unknown, or has a value that does not fit the model."""


class UnsupportedError(ConverterError):
    """The target format cannot express the model."""


class VerificationError(ConverterError):
    """The converted file does not compute what the source computes."""


class UntrustedError(ConverterError):
    """The source would run code that it carries, and ``trusted`` is not set."""


def nearest(word: str, candidates: Iterable[str], n: int = 3) -> list[str]:
    """The up to `n` candidates most like `word`, best first, compared without regard to case."""
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    return [by_lower[close] for close in difflib.get_close_matches(word.lower(), list(by_lower), n, cutoff=0.5)]
