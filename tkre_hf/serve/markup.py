"""What the page shows of results, as HTML. Whatever a visitor, a model or a file said is escaped here."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from tkre_hf.tkre.attribution import WordEffect
from tkre_hf.tkre.prototypes import RelationPrototypes

from .extraction import COLUMNS, Triple, to_csv

NONE = "none of the above"
_SHOWN = 12


def note(text: str) -> str:
    """A remark in place of a result."""
    return f'<p class="tkre-note">{escape(text)}</p>'


def ranking(entries: Sequence[Mapping[str, Any]]) -> str:
    """The relations of one pair with their scores, the best first; none of the above is shown wherever it stands."""
    shown = [entry for i, entry in enumerate(entries) if i < _SHOWN or entry["relation"] is None]
    rows = []
    for entry in shown:
        label = entry["relation"]
        name = f'<span class="tkre-none">{escape(_none(entry))}</span>' if label is None else escape(label)
        similarity = f"{entry['similarity']:.2f}" if "similarity" in entry else ""
        if label is None and similarity:
            similarity = f"below {similarity}"
        percent = 100 * entry["score"]
        rows.append(
            f'<tr><th scope="row">{name}</th><td class="tkre-bar"><span style="width:{percent:.1f}%"></span></td>'
            f"<td>{percent:.1f}%</td><td>{similarity}</td></tr>"
        )
    rest = len(entries) - len(shown)
    more = note(f"and {rest} relations more, all less likely") if rest else ""
    head = ("relation", "", "score", "similarity")
    return _table("tkre-ranking", head, rows) + more


def words(text: str, result: Mapping[str, Any], effects: Sequence[WordEffect]) -> str:
    """The sentence with head and tail framed, and each word shaded by what it does for the answer."""
    strongest = max((abs(effect.effect) for effect in effects), default=0.0)
    parts: list[tuple[int, int, str]] = []
    for effect in effects:
        # Rounding is no effect.
        share = abs(effect.effect) / strongest if strongest > 1e-4 else 0.0
        kind = "for" if effect.effect > 0 else "against"
        points = f"{100 * effect.effect:+.1f}"
        style = f'class="tkre-word tkre-{kind}" style="--share:{share:.2f}" data-effect="{effect.effect:.4f}"'
        title = f"without it the score is {points.translate(str.maketrans('+-', '-+'))} points"
        parts.append((effect.start, effect.end, f'<span {style} title="{title}">{escape(effect.text)}</span>'))
    for role in ("head", "tail"):
        start, end = result[role]["start"], result[role]["end"]
        inner = escape(text[start:end])
        parts.append((start, end, f'<span class="tkre-entity tkre-{role}">{inner}<sub> {role}</sub></span>'))
    shown, last = [], 0
    for start, end, part in sorted(parts):
        if start < last:  # an entity inside the other
            continue
        shown += [escape(text[last:start]), part]
        last = end
    shown.append(escape(text[last:]))
    label = _none(result) if result["relation"] is None else result["relation"]
    listed = sorted((effect for effect in effects if effect.effect > 1e-4), key=lambda effect: -effect.effect)[:3]
    most = ", ".join(f"<b>{escape(effect.text)}</b> ({100 * effect.effect:+.1f} points)" for effect in listed)
    told = f"For “{escape(label)}”, most of all: {most}." if most else f"No single word decides for “{escape(label)}”."
    cut = note("The sentence is longer than the model's window, which was cut around head and tail.")
    return f'<p class="tkre-words">{"".join(shown)}</p><p>{told}</p>{cut if result["truncated"] else ""}'


def relations(known: RelationPrototypes | None, examples: Mapping[str, Sequence[str]]) -> str:
    """The relations with their descriptions, and the examples that the visitor gave."""
    if known is None:
        return note("There are no relations yet: add one.")
    rows = []
    for number, (label, info) in enumerate(zip(known.relations, known.info, strict=True)):
        count = int((known.support_labels == number).sum())
        own = "".join(f"<li>{escape(text)}</li>" for text in examples.get(label, ()))
        shown = f"<details><summary>{count}</summary><ul>{own}</ul></details>" if own else str(count)
        name = escape(label) if info.name == label else f"{escape(label)} <i>({escape(info.name)})</i>"
        rows.append(f'<tr><th scope="row">{name}</th><td>{escape(info.description)}</td><td>{shown}</td></tr>')
    return _table("tkre-relations", ("relation", "description", "examples"), rows)


def labels(names: Sequence[str]) -> str:
    """A classifier's relations."""
    return f"<p>The model is a classifier of {len(names)} relations: {', '.join(map(escape, names))}.</p>"


def picture(svg: str, triples: Sequence[Triple]) -> str:
    """The graph as an image, in which no script runs whatever a name says, and as text for who can't see it."""
    told = "; ".join(f"{triple.head} – {triple.relation} – {triple.tail}" for triple in triples)
    data = base64.b64encode(svg.encode()).decode()
    return f'<img class="tkre-graph" alt="{escape(told)}" src="data:image/svg+xml;base64,{data}">'


def triples(found: Sequence[Triple]) -> str:
    """The graph's edges as a table, which can be taken along as CSV: the link holds the file, so no server does."""
    rows = [
        f"<tr><td>{escape(triple.head)}</td><td>{escape(triple.relation)}</td><td>{escape(triple.tail)}</td>"
        f"<td>{triple.score:.1%}</td><td>{escape(triple.sentence)}</td></tr>"
        for triple in found
    ]
    data = base64.b64encode(to_csv(found).encode()).decode()
    link = f'<a class="tkre-download" download="relations.csv" href="data:text/csv;base64,{data}">Download as CSV</a>'
    return f"{_table('tkre-triples', COLUMNS, rows)}<p>{link}</p>"


def _none(entry: Mapping[str, Any]) -> str:
    """None of the above, and what a classifier calls it."""
    return f"{NONE} ({entry['na_label']})" if "na_label" in entry else NONE


def _table(kind: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="tkre-table"><table class="{kind}">{body}</table></div>'
