"""Draw the packages of workflow/converter and what imports what into docs/packages.svg: python docs/packages.py

A package is a folder; a module beside the folders stands for itself. Read from the source code, imports within functions
too; what only type checkers import is left out. Each package stands above all that it imports. A test keeps the picture up to
date and refuses circles.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "workflow" / "converter"
PICTURE = Path(__file__).with_name("packages.svg")

# importer -> imported -> the imports, as "path:line".
Graph = dict[str, dict[str, list[str]]]
Arrow = tuple[str, str]

_WIDTH, _HEIGHT, _ROW, _MARGIN = 1180, 28, 74, 20
_COLOURS = {"tf": "#fdebd0", "tflite": "#fdebd0", "torch": "#f5d6d0", "torch_to_keras": "#f5d6d0"}
_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">
<title>Packages of workflow/converter: each imports what its arrows point to</title>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">\
<path d="M0 0L8 4L0 8z" fill="#456"/></marker></defs>
<rect width="{width}" height="{height}" fill="white"/>
"""


def read_graph(root: Path = ROOT) -> Graph:
    """Which packages import which, below the package that lies in the folder `root`."""
    graph: Graph = {}
    for path in sorted(root.rglob("*.py")):
        package = _package(path, root)
        arrows = graph.setdefault(package, {})
        for name, line in _imports(ast.parse(path.read_text(encoding="utf-8"))):
            imported = _package_of(name, root)
            if imported is not None and imported != package:
                arrows.setdefault(imported, []).append(f"{path.relative_to(root)}:{line}")
    imported = {name for arrows in graph.values() for name in arrows}
    return {package: arrows for package, arrows in graph.items() if arrows or package in imported}  # not empty folders


def _package(path: Path, root: Path) -> str:
    """ "tf.graph" for tf/graph/freeze.py, "errors" for errors.py."""
    folders = path.relative_to(root).parent.parts
    return ".".join(folders) if folders else root.name if path.stem == "__init__" else path.stem


def _package_of(name: str, root: Path) -> str | None:
    """The package in which a dotted name is defined; None if that is not below `root`."""
    first, *parts = name.split(".")
    if first != root.name:
        return None
    path = root.joinpath(*parts)
    while not path.is_dir() and not path.with_suffix(".py").is_file():
        path = path.parent  # the last part is a name within the module
    return _package(path / "__init__.py" if path.is_dir() else path.with_suffix(".py"), root)


def _imports(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Dotted name and line of each import that runs, wherever it stands."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        children: list[ast.AST] = [*node.orelse]
    else:
        children = [*ast.iter_child_nodes(node)]
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.module and not node.level, f"line {node.lineno}: relative imports are not read"
        yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
    for child in children:
        yield from _imports(child)


def find_circle(graph: Graph) -> list[str]:
    """Packages of which each imports the next and the last is the first again; empty if there are none."""
    done: set[str] = set()

    def visit(package: str, path: list[str]) -> list[str]:
        if package in path:
            return [*path[path.index(package) :], package]
        if package not in done:
            for imported in sorted(graph.get(package, {})):
                if circle := visit(imported, [*path, package]):
                    return circle
            done.add(package)
        return []

    return next((circle for package in sorted(graph) if (circle := visit(package, []))), [])


def layers(graph: Graph) -> dict[str, int]:
    """The row of each package, counted from below: one more than the highest of what it imports."""
    assert not (circle := find_circle(graph)), " imports ".join(circle)
    found: dict[str, int] = {}

    def row(package: str) -> int:
        if package not in found:
            found[package] = 1 + max(map(row, graph[package]), default=-1)
        return found[package]

    for package in sorted(graph):
        row(package)
    return found


def direct_arrows(graph: Graph) -> list[Arrow]:
    """The arrows that no chain of other arrows implies (the graph's transitive reduction)."""
    reached: dict[str, set[str]] = {}
    for package in sorted(graph, key=layers(graph).__getitem__):
        reached[package] = {*graph[package]}.union(*(reached[imported] for imported in graph[package]))
    return [
        (package, imported)
        for package in sorted(graph)
        for imported in sorted(graph[package])
        if not any(imported in reached[other] for other in graph[package])
    ]


def _bends(arrows: list[Arrow], rows: dict[str, int]) -> dict[Arrow, list[str]]:
    """Of each arrow the points that it passes: its ends, and one place in each row between, as an invisible package."""
    return {
        (upper, lower): [upper, *(f"{upper}>{lower}@{row}" for row in range(rows[upper] - 1, rows[lower], -1)), lower]
        for upper, lower in arrows
    }


def _places(graph: Graph, bends: dict[Arrow, list[str]]) -> dict[str, float]:
    """The horizontal centre of each package and bend: each row in the order of the mean of its neighbours, repeated."""
    rows = layers(graph)
    heights = {point: rows[points[0]] - index for points in bends.values() for index, point in enumerate(points)}
    heights |= rows
    neighbours: dict[str, list[str]] = {point: [] for point in heights}
    for points in bends.values():
        for upper, lower in zip(points, points[1:], strict=False):
            neighbours[upper].append(lower)
            neighbours[lower].append(upper)
    levels = [sorted(p for p in heights if heights[p] == height) for height in range(max(rows.values()) + 1)]
    places: dict[str, float] = {}
    for level in levels:
        places |= _spread(level)
    for turn in range(24):
        upwards = turn % 2 == 0
        for level in levels if upwards else levels[::-1]:
            side = {p: [n for n in neighbours[p] if (heights[n] < heights[p]) == upwards] for p in level}
            mean = {p: sum(places[n] for n in near) / len(near) if near else places[p] for p, near in side.items()}
            places |= _spread(sorted(level, key=lambda point: (mean[point], point)))
    return places


def _spread(level: list[str]) -> dict[str, float]:
    """Places over the width in this order; a bend takes a small part of the room of a package."""
    rooms = [0.22 if "@" in point else 1.0 for point in level]
    unit = min((_WIDTH - 2 * _MARGIN) / sum(rooms), 190.0)
    left = (_WIDTH - unit * sum(rooms)) / 2
    return {point: round(left + unit * (sum(rooms[:index]) + rooms[index] / 2), 1) for index, point in enumerate(level)}


def draw(graph: Graph) -> str:
    """The picture as SVG. Arrows that a chain of others implies are pale."""
    rows = layers(graph)
    arrows = direct_arrows(graph)
    bends = _bends(arrows, rows)
    places = _places(graph, bends)
    top = max(rows.values())
    height = 2 * _MARGIN + top * _ROW + _HEIGHT

    def level(row: int) -> float:
        return _MARGIN + (top - row) * _ROW + _HEIGHT / 2

    parts = [_HEAD.format(width=_WIDTH, height=height)]
    for package in sorted(graph):
        for imported in sorted({*graph[package]} - {lower for upper, lower in arrows if upper == package}):
            line = f"M{places[package]} {level(rows[package])}L{places[imported]} {level(rows[imported])}"
            parts.append(f'<path d="{line}" stroke="#e4e8ec" fill="none"/>\n')
    for (package, imported), points in bends.items():
        x, y = places[package], level(rows[package]) + _HEIGHT / 2
        line = f"M{x} {y}"
        for row, point in zip(range(rows[package] - 1, -1, -1), points[1:], strict=False):
            last = point == imported
            next_x, next_y = places[point], level(row) - (_HEIGHT / 2 + 1 if last else _HEIGHT / 2)
            middle = (y + next_y) / 2
            line += f"C{x} {middle} {next_x} {middle} {next_x} {next_y}"
            x, y = next_x, next_y
            if not last:
                y = level(row) + _HEIGHT / 2
                line += f"L{x} {y}"
        parts.append(f'<path d="{line}" stroke="#456" fill="none" marker-end="url(#head)">')
        parts.append(f"<title>{escape(package)} imports {escape(imported)}</title></path>\n")
    for package in sorted(graph):
        width = 14 + 7 * len(package)
        x, y = places[package], level(rows[package])
        fill = _COLOURS.get(package.partition(".")[0], "#e3ecf7")
        box = f'x="{x - width / 2}" y="{y - _HEIGHT / 2}" width="{width}" height="{_HEIGHT}" rx="5"'
        parts.append(f'<rect {box} fill="{fill}" stroke="#456"/>')
        parts.append(f'<text x="{x}" y="{y + 4}" text-anchor="middle">{escape(package)}</text>\n')
    return "".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    PICTURE.write_text(draw(read_graph()), encoding="utf-8")
