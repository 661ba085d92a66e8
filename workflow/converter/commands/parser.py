"""An argument parser whose errors are one sentence, with the nearest known option, and exit status 1."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from converter.errors import nearest
from converter.escape import printable

__all__ = ["SentenceParser"]


class SentenceParser(argparse.ArgumentParser):
    """argparse's own prints the whole usage, and names no option that is near a misspelt one."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """The parsed command line; ends the program with a sentence where it is wrong."""
        found, rest = self.parse_known_args(args, namespace or argparse.Namespace())
        if rest:
            self.error(self._unknown(rest[0].partition("=")[0]))
        return found

    def error(self, message: str) -> NoReturn:
        """Print the sentence and end with status 1."""
        print(printable(f"{self.prog}: {_sentence(message)} ({self.prog} --help says more)"), file=sys.stderr)
        sys.exit(1)

    def _unknown(self, word: str) -> str:
        options = [option for action in self._actions for option in action.option_strings]
        if not word.startswith("-"):
            return f"{word} is one argument too many"
        # What stands behind a dot is the part that people remember: --type for --quantization.type.
        leaves = {f"--{option.rpartition('.')[2]}": option for option in options if "." in option}
        close = [leaves.get(near, near) for near in nearest(word, [*leaves, *options], 1)]
        return f"unknown option {word}: " + (f"did you mean {close[0]}?" if close else "no option has a similar name")


def _sentence(message: str) -> str:
    """argparse's message in this program's words."""
    if missing := re.fullmatch(r"the following arguments are required: (.*)", message):
        return f"{missing[1]} is missing"
    if empty := re.fullmatch(r"argument (.*): expected one argument", message):
        return f"{empty[1]} needs a value"
    return message.removeprefix("argument ")
