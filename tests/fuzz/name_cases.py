"""Names in PyTorch files that would be Python where torch writes them into source: endings of texts, defaults, annotations."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from fuzz.bytes_cases import Case

__all__ = ["name_cases"]

# In the hub's folder, where an import step may write.
_ACTIONS = ["open('hub/pwned','w')", 'exec(\'open("hub/pwned","w")\')', 'open("hub/pwned","w")', "open(b'hub/pwned',1)"]
_SHAPES = [
    '{n}" if not {c} else "{n}', "{n}' if not {c} else '{n}", '{n}") if not {c} else (self, "{n}', "{n}={c}", "{n}:{c}",
    "{n}, o:{c}", "{n}, *, o={c}", "{n}': {c}, '{n}", '{n}": {c}, "{n}', "{n}\n    {c}\n", "{n}\n{c}", "{n}; {c}", "{c}",
    "{n} if {c} else {n}", '{n}\\" if not {c} else \\"{n}', "{n}\\", "{n}\r{c}\r", "{n}\u2028{c}", "({c})", "[{c}]",
    "{n} # COUNTER: 1", "lambda {n}:{c}", "*{n}={c}", "**{n}", "{n}.{c}.{n}", "{n}\0{c}", "f'{{{c}}}'", "{n}'''{c}'''",
    "{n}):\n    {c}\n    def f(x", "\ufb01{n}", "{n} {n}", "", " ", ".", "{n}.", "import", "None", "__class__", "{n}-{n}",
]  # fmt: skip


def name_cases(seed: Path, random_: random.Random) -> Iterator[Case]:
    """Without end."""
    change = _in_program if seed.suffix == ".pt2" else _in_module
    while True:
        state = random_.getrandbits(32)
        yield f"name in {change.__name__.removeprefix('_in_')}", _build(seed, change, state)


def _build(seed: Path, change: Callable, state: int) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        change(seed, folder / seed.name, random.Random(state))
        return folder / seed.name

    return build


def _hostile(name: str, random_: random.Random) -> str:
    shape, action = random_.choice(_SHAPES), random_.choice(_ACTIONS)
    return shape.replace("{n}", name).replace("{c}", action)


def _in_program(seed: Path, path: Path, random_: random.Random) -> None:
    """A text or key of the program, everywhere that it stands or in one place only."""
    with zipfile.ZipFile(seed) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    contents = {name: json.loads(entries[name]) for name in entries if name.endswith(".json")}
    old = random_.choice(sorted({text for content in contents.values() for text in _texts(content)}))
    new, limit = _hostile(old, random_), random_.choice([1, 10**6, 10**6])
    for name, content in contents.items():
        entries[name] = json.dumps(_renamed(content, old, new, [limit])).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def _texts(node: object) -> Iterator[str]:
    """All texts and keys of mappings; those within texts that are JSON too."""
    if isinstance(node, dict):
        yield from node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(value)
    if isinstance(node, str):
        yield node
        if node.startswith("["):
            yield from _texts(json.loads(node))


def _renamed(node: object, old: str, new: str, left: list[int]) -> object:
    def name(text: str) -> str:
        if text != old or left[0] <= 0:
            return text
        left[0] -= 1
        return new

    if isinstance(node, dict):
        return {name(key): _renamed(value, old, new, left) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, old, new, left) for value in node]
    if isinstance(node, str) and node.startswith("[") and node != old:
        return json.dumps(_renamed(json.loads(node), old, new, left))
    return name(node) if isinstance(node, str) else node


def _in_module(seed: Path, path: Path, random_: random.Random) -> None:
    """A part, parameter, buffer or attribute of a module, renamed or added."""
    module = torch.load(seed, weights_only=False)
    part = random_.choice(list(module.modules()))
    for _ in range(random_.choice([1, 1, 3])):
        mappings = [vars(part)[key] for key in ("_modules", "_parameters", "_buffers") if vars(part).get(key)]
        mapping = random_.choice([*mappings, *mappings, part._buffers, vars(part)])
        name = random_.choice([key for key in mapping if isinstance(key, str)] or ["w"])
        items = dict(mapping)
        if mapping is vars(part) or random_.random() < 0.3:
            mapping[_hostile("w", random_)] = torch.ones(3)
            continue
        mapping.clear()
        mapping.update((_hostile(name, random_) if key == name else key, value) for key, value in items.items())
    torch.save(module, path, _use_new_zipfile_serialization="old" not in seed.name)
