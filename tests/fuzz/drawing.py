"""Cases of a kind of source: changes drawn at random, each with the seed of its own randomness."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuzz.bytes_cases import Case

__all__ = ["drawn"]

# Of a seed file, a change and a state of randomness: what writes the changed file into a folder, and returns its path.
Build = Callable[[Path, Callable, int], Callable[[Path], Path]]


def drawn(seed: Path, random_: random.Random, changes: Sequence[Callable], build: Build) -> Iterator[Case]:
    """Without end. A case is called as its change is."""
    while True:
        change = random_.choice(changes)
        yield change.__name__.strip("_").replace("_", " "), build(seed, change, random_.getrandbits(32))
