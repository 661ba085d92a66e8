"""Plots as inline SVG: the same data gives the same bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLORS", "new_figure", "svg"]

# Okabe and Ito's palette, which colour-blind readers tell apart too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")

_WIDTH = 4.8  # inches: on a phone the page shrinks it to about three quarters, and 9 pt stay readable
_STYLE = {
    "svg.fonttype": "none",  # text stays text: small, selectable
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # names are text, whatever they hold between dollar signs
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def new_figure(height: float = 3.0, rows: int = 1, columns: int = 1) -> Figure:
    """An empty figure of `rows` x `columns` axes (`figure.axes`), as wide as the page, `height` in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        figure.subplots(rows, columns)
    return figure


def svg(figure: Figure, name: str) -> Markup:
    """The figure as an <svg> element. `name` tells the ids of a page's figures apart; letters, digits and dashes."""
    import matplotlib
    from matplotlib.text import Text

    for label in figure.findobj(Text):  # made outside of the style
        label.set_parse_math(False)
    text = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    element = text.getvalue()[text.getvalue().index("<svg") :]
    return Markup(_without_unused_ids(re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL), name))


def _without_unused_ids(text: str, name: str) -> str:
    """Matplotlib (3.11) numbers its groups from 1 in each figure: two figures would share ids within a page."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
