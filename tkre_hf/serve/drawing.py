"""The extracted graph as a picture."""

from __future__ import annotations

import io
import textwrap
import threading
import warnings
from collections import Counter
from collections.abc import Sequence

import matplotlib
import networkx as nx
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from .extraction import Triple

# matplotlib's settings and Python's filters are the whole process', and visitors come at the same time.
_LOCK = threading.Lock()
_LONGEST = 40
_NODE, _EDGE, _TEXT = "#dbeafe", "#64748b", "#0f172a"


def draw(triples: Sequence[Triple]) -> str:
    """Draws entities as boxes and relations as labelled arrows.

    Args:
        triples: At least one.

    Returns:
        An SVG image, in which the names are text, whatever their script.
    """
    graph = nx.MultiDiGraph()
    for triple in triples:
        graph.add_edge(triple.head, triple.tail)
    # 1.6 times as wide as high, like the picture.
    width = 8 + min(len(graph), 40) / 8
    layout = nx.spring_layout(graph, seed=0, k=2.2 / max(len(graph), 1) ** 0.5, iterations=200)
    places = {node: (1.6 * float(x), float(y)) for node, (x, y) in layout.items()}
    figure = Figure(figsize=(width, width / 1.6), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.margins(0.18)
    texts = []
    parallel: Counter[frozenset[str]] = Counter()
    for triple in triples:
        (x0, y0), (x1, y1) = places[triple.head], places[triple.tail]
        ends = frozenset((triple.head, triple.tail))
        # Relations between the same two entities: each a little more bent than the one before.
        bend = 0.12 + 0.2 * parallel[ends]
        parallel[ends] += 1
        if triple.head == triple.tail:
            x1, bend = x1 + 1e-3, 60.0
        axes.add_patch(
            FancyArrowPatch(
                (x0, y0),
                (x1, y1),
                connectionstyle=f"arc3,rad={bend}",
                arrowstyle="-|>",
                mutation_scale=14,
                shrinkA=16,
                shrinkB=22,
                color=_EDGE,
                linewidth=1.3,
            )
        )
        # The middle of the curve that arc3 draws.
        middle = (x0 + x1) / 2 + bend * (y1 - y0) / 2, (y0 + y1) / 2 - bend * (x1 - x0) / 2
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        label = f"{_short(triple.relation)} {triple.score:.0%}"
        texts.append(axes.text(*middle, label, fontsize=9, ha="center", va="center", color=_EDGE, bbox=box))
    for node, place in places.items():
        box = {"boxstyle": "round,pad=0.4", "facecolor": _NODE, "edgecolor": _EDGE}
        texts.append(axes.text(*place, _short(node), fontsize=11, ha="center", va="center", color=_TEXT, bbox=box))
    axes.scatter(*zip(*places.values(), strict=True), alpha=0)
    for text in texts:
        # A dollar in a name begins no formula.
        text.set_parse_math(False)
    image = io.StringIO()
    with _LOCK, matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # It measures with its own font, which lacks many scripts; the browser draws with its own ones.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(image, format="svg", metadata={"Date": None}, transparent=False)
    return image.getvalue()


def _short(name: str) -> str:
    """One line or two of a name, without what XML can't hold."""
    name = "".join(sign if sign.isprintable() else " " for sign in name)
    lines = textwrap.wrap(name, 22, max_lines=2, placeholder=" …")
    return "\n".join(line[:_LONGEST] for line in lines) or "?"
