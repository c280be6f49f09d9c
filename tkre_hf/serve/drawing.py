"""The extracted graph as a picture."""

from __future__ import annotations

import io
import textwrap
import threading
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import networkx as nx
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from .extraction import Triple

Point = tuple[float, float]

# matplotlib's settings and Python's filters are the whole process', and visitors come at the same time.
_LOCK = threading.Lock()
_LONGEST = 40
# In inches: around each connected part of the graph, and how wide several of them side by side may be.
_MARGIN, _WIDTH = (2.2, 0.9), 15.0
# More entities take long to be placed by their distances in the graph.
_EXACT = 60
_NODE, _EDGE, _TEXT = "#dbeafe", "#64748b", "#0f172a"


def draw(triples: Sequence[Triple]) -> str:
    """Draws entities as boxes and relations as labelled arrows.

    Args:
        triples: At least one.

    Returns:
        An SVG image, in which the names are text, whatever their script.
    """
    places, (width, height) = _places(triples)
    # An SVG is drawn at 72 dots an inch, and the boxes are measured in dots.
    figure = Figure(figsize=(width, height), dpi=72)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    style: dict[str, Any] = {"ha": "center", "va": "center"}
    boxes, texts, bends = {}, [], []
    for node, place in places.items():
        box: dict[str, Any] = {"boxstyle": "round,pad=0.4", "facecolor": _NODE, "edgecolor": _EDGE}
        texts.append(axes.text(*place, _short(node), fontsize=11, color=_TEXT, bbox=box, zorder=3, **style))
        boxes[node] = texts[-1]
    parallel: Counter[tuple[str, str]] = Counter()
    for triple in triples:
        (x0, y0), (x1, y1) = places[triple.head], places[triple.tail]
        # Each relation from one entity to another is more bent than the one before; those back bend to the other side.
        ends = triple.head, triple.tail
        bend = 0.12 + 0.25 * parallel[ends]
        parallel[ends] += 1
        bends.append(bend)
        # The middle of the curve that arc3 draws.
        middle = (x0 + x1) / 2 + bend * (y1 - y0) / 2, (y0 + y1) / 2 - bend * (x1 - x0) / 2
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        label = f"{_short(triple.relation)} {triple.score:.0%}"
        texts.append(axes.text(*middle, label, fontsize=9, color=_EDGE, bbox=box, zorder=2, **style))
    for text in texts:
        # A dollar in a name begins no formula.
        text.set_parse_math(False)
    image = io.StringIO()
    with _LOCK, matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        # It measures with its own font, which lacks many scripts; the browser draws with its own ones.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # The arrows end at the boxes, whose size is known once they are drawn.
        figure.draw_without_rendering()
        for triple, bend in zip(triples, bends, strict=True):
            axes.add_patch(
                FancyArrowPatch(
                    places[triple.head],
                    places[triple.tail],
                    patchA=boxes[triple.head].get_bbox_patch(),
                    patchB=boxes[triple.tail].get_bbox_patch(),
                    connectionstyle=f"arc3,rad={bend}",
                    arrowstyle="-|>",
                    mutation_scale=14,
                    shrinkA=0,
                    shrinkB=2,
                    color=_EDGE,
                    linewidth=1.3,
                    zorder=1,
                )
            )
        figure.savefig(image, format="svg", metadata={"Date": None}, transparent=False)
    return image.getvalue()


def _places(triples: Sequence[Triple]) -> tuple[dict[str, Point], Point]:
    """Where each entity stands, in inches, and the picture's size: what isn't connected stands side by side."""
    graph = nx.Graph()
    for triple in triples:
        graph.add_edge(triple.head, triple.tail)
    places: dict[str, Point] = {}
    left = top = row = right = 0.0
    for part in sorted(nx.connected_components(graph), key=lambda part: -len(part)):
        nodes = [node for node in graph if node in part]
        if len(nodes) <= 2:
            own = {node: (float(i), 0.0) for i, node in enumerate(nodes)}
            half_width, half_height = 1.8, 0.0
        else:
            method = nx.kamada_kawai_layout if len(nodes) <= _EXACT else nx.spring_layout
            seed = {} if len(nodes) <= _EXACT else {"seed": 0}
            own = {node: (float(x), float(y)) for node, (x, y) in method(graph.subgraph(nodes), **seed).items()}
            half_width, half_height = 1.5 * len(nodes) ** 0.5, 0.8 * len(nodes) ** 0.5
        width, height = 2 * half_width + _MARGIN[0], 2 * half_height + _MARGIN[1]
        if left and left + width > _WIDTH:
            left, top, row = 0.0, top + row, 0.0
        for node, (x, y) in _spread(own).items():
            places[node] = (left + _MARGIN[0] / 2 + x * 2 * half_width, top + _MARGIN[1] / 2 + y * 2 * half_height)
        left, row = left + width, max(row, height)
        right = max(right, left)
    # The first stand on top.
    height = top + row
    return {node: (x, height - y) for node, (x, y) in places.items()}, (right, height)


def _spread(places: Mapping[str, Point]) -> dict[str, Point]:
    """The same places, from 0 to 1 along both axes."""
    spread = []
    for axis in (0, 1):
        values = [place[axis] for place in places.values()]
        low, extent = min(values), max(values) - min(values)
        spread.append([(value - low) / extent if extent > 1e-6 else 0.5 for value in values])
    return dict(zip(places, zip(*spread, strict=True), strict=True))


def _short(name: str) -> str:
    """One line or two of a name, without what XML can't hold."""
    name = "".join(sign if sign.isprintable() else " " for sign in name)
    lines = textwrap.wrap(name, 22, max_lines=2, placeholder=" …")
    return "\n".join(line[:_LONGEST] for line in lines) or "?"
