"""The page itself: three tabs over one model, and the endpoint for programs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from html import escape
from importlib.resources import files
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from tkre_hf.errors import TkreError
from tkre_hf.tkre.attribution import word_spans
from tkre_hf.tkre.inputs import Sentence, read_input

from . import drawing, limits, markup
from .extraction import extract
from .session import Extractor, Session

_SENTENCE = "[E1]Oslo[/E1] is the capital of [E2]Norway[/E2] and lies at the head of a fjord."
_PARAGRAPH = (
    "[Oslo] is the capital of [Norway]. [Middlemarch] was written by [George Eliot] in 1871. In 1903 [Marie Curie] "
    "shared the prize with her husband [Pierre Curie]. [Apple] was started in a garage by [Steve Jobs] and a friend."
)
_FRONT_MATTER = re.compile(r"\A\s*---\s*\n.*?\n---\s*(\n|\Z)", re.S)
# The model's events wait for each other: two at once on one processor are no faster than one after the other.
_ON_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
_WAITING = 500


def build(extractor: Extractor, card: str | None = None, title: str = "Relation extraction") -> gr.Blocks:
    """Makes the page.

    Args:
        extractor: The model, and the relations that every visitor starts with.
        card: The checkpoint's model card, if it has one.
        title: Of the page.
    """
    with gr.Blocks(title=title, analytics_enabled=False) as demo:
        gr.Markdown("# Relation extraction\nWhich relation holds between two entities of a sentence?")
        # An hour after a visitor's last change their examples are forgotten.
        session = gr.State(extractor.start, time_to_live=3600)
        with gr.Tab("Sentence"):
            _sentence_tab(extractor, session)
        with gr.Tab("Paragraph"):
            _paragraph_tab(extractor, session)
        with gr.Tab("Model card"):
            if card is None or not card.strip():
                gr.Markdown("The checkpoint has no model card: no README.md lies beside it.")
            else:
                gr.Markdown(_FRONT_MATTER.sub("", card), sanitize_html=True, elem_id="card")
        gr.api(_endpoint(extractor), api_name="extract", concurrency_id="model", concurrency_limit=1)
    demo.queue(max_size=_WAITING)
    return demo


def launch_settings() -> dict[str, Any]:
    """What ``Blocks.launch`` is given: style and limits. Nothing on the page comes from another server."""
    return {
        "css": (files(__package__) / "style.css").read_text(encoding="utf-8"),
        "theme": _theme(),
        "app_kwargs": {"middleware": [Middleware(limits.BodyLimit)]},
        "max_file_size": limits.BODY_BYTES,
        "footer_links": ["api"],
        "run_history": False,
        "ssr_mode": False,
    }


def _theme() -> gr.themes.Base:
    theme = gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    # The default's grey is too pale to read on white.
    grey = {"body_text_color_subdued": "*neutral_600", "block_info_text_color": "*neutral_600"}
    return theme.set(**grey)


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a visitor can mend is told in one sentence, which the page renders as HTML."""

    @wraps(function)
    def told(*args: Any) -> Any:
        try:
            return function(*args)
        except TkreError as error:
            raise gr.Error(escape(str(error)), title="That didn't work", print_exception=False) from None

    return told


def _sentence_tab(extractor: Extractor, session: gr.State) -> None:
    start, start_words = extractor.start, read_words(_SENTENCE)
    resources = files(__package__)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3):
            text = gr.Textbox(
                _SENTENCE,
                label="Sentence",
                info="Mark head and tail, as in [E1]Oslo[/E1] is in [E2]Norway[/E2], or choose them below.",
                lines=2,
                max_lines=8,
                elem_id="sentence",
            )
            picker = gr.HTML(
                start_words,
                html_template=(resources / "words.html").read_text(encoding="utf-8"),
                js_on_load=(resources / "words.js").read_text(encoding="utf-8"),
                elem_id="picker",
            )
            predict = gr.Button("Find the relation", variant="primary", elem_id="predict")
            ranked = gr.HTML(elem_id="ranking")
            shaded = gr.HTML(elem_id="words")
            threshold = gr.Slider(
                -1,
                1,
                start.threshold,
                step=0.01,
                label="None of the above, below this similarity",
                visible=extractor.learns,
                elem_id="threshold",
            )
        with gr.Column(scale=2):
            gr.Markdown("### Relations")
            if not extractor.learns:
                gr.HTML(markup.labels(extractor.relations(start)))
            listed = gr.HTML(markup.relations(start.known, {}), visible=extractor.learns, elem_id="relations")
            with gr.Group(visible=extractor.learns):
                relation = gr.Dropdown(
                    extractor.relations(start),
                    value=None,
                    label="Relation",
                    info="Choose one, or type a new one's name.",
                    allow_custom_value=True,
                    elem_id="relation",
                )
                description = gr.Textbox(
                    label="Description of a new relation", info="What it means; may be empty.", elem_id="description"
                )
                examples = gr.Textbox(
                    label="Examples",
                    info="One a line, with marks; or add the sentence on the left.",
                    lines=3,
                    max_lines=10,
                    elem_id="examples",
                )
            with gr.Row(visible=extractor.learns):
                add = gr.Button("Add", variant="primary", min_width=90, elem_id="add")
                add_sentence = gr.Button("Add sentence", min_width=120, elem_id="add-sentence")
                remove = gr.Button("Remove", variant="stop", min_width=90, elem_id="remove")

    def ranking(text: Any, picked: Any, threshold: Any, session: Session) -> tuple[str, str]:
        sentence = chosen(text, picked)
        entries, effects = extractor.explain(session, sentence, _number(threshold, -1))
        return markup.ranking(entries), markup.words(sentence.text, entries[0], effects)

    def again(text: Any, picked: Any, threshold: Any, session: Session) -> tuple[str, str]:
        # After relations changed, there may be nothing to rank: that is no mistake of the visitor's.
        try:
            return ranking(text, picked, threshold, session)
        except TkreError as error:
            return markup.note(str(error)), ""

    def changed(session: Session) -> tuple[Any, ...]:
        names = extractor.relations(session)
        return session, markup.relations(session.known, session.examples), gr.Dropdown(choices=names)

    def on_add(relation: Any, description: Any, examples: Any, session: Session) -> tuple[Any, ...]:
        lines = limits.checked_text(examples, "the examples", limits.BODY_BYTES).splitlines()
        sentences = [line.strip() for line in lines if line.strip()]
        return (*changed(extractor.add(session, *_named(relation, description, sentences))), "", "")

    def on_add_sentence(relation: Any, description: Any, text: Any, picked: Any, session: Session) -> tuple[Any, ...]:
        sentence = [marked(chosen(text, picked))]
        return (*changed(extractor.add(session, *_named(relation, description, sentence))), "", gr.skip())

    def on_remove(relation: Any, session: Session) -> tuple[Any, ...]:
        label = limits.checked_text(relation, "the relation", limits.LABEL_CHARACTERS)
        session, table, _ = changed(extractor.remove(session, label))
        return session, table, gr.Dropdown(choices=extractor.relations(session), value=None)

    asked = [text, picker, threshold, session]
    answer = [ranked, shaded]
    text.change(
        _told(read_words), text, picker, queue=False, show_progress="hidden", trigger_mode="always_last",
        api_visibility="private",
    )  # fmt: skip
    gr.on([predict.click, text.submit], _told(ranking), asked, answer, **_ON_MODEL)
    threshold.release(again, asked, answer, **_ON_MODEL)
    kept = [session, listed, relation]
    given = [relation, description, examples, session]
    for event in (
        add.click(_told(on_add), given, [*kept, description, examples], **_ON_MODEL),
        add_sentence.click(
            _told(on_add_sentence),
            [relation, description, text, picker, session],
            [*kept, description, examples],
            **_ON_MODEL,
        ),
        remove.click(_told(on_remove), [relation, session], kept, **_ON_MODEL),
    ):
        event.success(again, asked, answer, **_ON_MODEL)


def _paragraph_tab(extractor: Extractor, session: gr.State) -> None:
    found = extractor.pipe.ner is not None
    text = gr.Textbox(
        _PARAGRAPH,
        label="Paragraph",
        info="Mark entities as [Entity]" + ("; without any mark they are found." if found else "."),
        lines=5,
        max_lines=20,
        elem_id="paragraph",
    )
    with gr.Row():
        least = gr.Slider(0, 1, 0.5, step=0.01, label="Score that an edge needs", scale=2)
        draw = gr.Button("Draw the graph", variant="primary", elem_id="draw")
    picture = gr.HTML(elem_id="graph")
    table = gr.HTML(elem_id="triples")

    def graph(text: Any, least: Any, session: Session) -> tuple[str, str]:
        paragraph = limits.checked_text(text, "the paragraph", limits.PARAGRAPH_CHARACTERS)
        triples = extract(extractor.view(session), paragraph, _number(least, 0))
        if not triples:
            return markup.note("No relation reaches that score."), ""
        return markup.picture(drawing.draw(triples), triples), markup.triples(triples)

    draw.click(_told(graph), [text, least, session], [picture, table], **_ON_MODEL)


def _endpoint(extractor: Extractor) -> Callable[..., Any]:
    def extract(text: str, top_k: int = 1) -> list[dict[str, Any]]:
        """The relations of a sentence with marked head and tail, the best first, as the pipeline gives them."""
        try:
            sentence = limits.checked_text(text, "the sentence", limits.SENTENCE_CHARACTERS)
            if read_input(sentence, "inputs", 0).pairs is None:
                raise TkreError("mark head and tail, as in '[E1]Oslo[/E1] is the capital of [E2]Norway[/E2].'")
            found: list[dict[str, Any]] = extractor.view(extractor.start)(sentence, top_k=top_k)
        except TkreError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return found

    return extract


def read_words(text: Any) -> dict[str, Any]:
    """What the picker shows of a typed text: its words, and head and tail where they are marked.

    Raises:
        TkreError: The text is too long, or its marks are wrong.
    """
    typed = limits.checked_text(text, "the sentence", limits.SENTENCE_CHARACTERS)
    value: dict[str, Any] = {"text": typed, "words": [], "head": None, "tail": None}
    if not typed:
        return value
    try:
        sentence = read_input(typed, "inputs", 0)
    except TkreError:
        # Half of a mark is what a mark looks like while it is typed.
        return {**value, "words": [list(span) for span in word_spans(typed)]}
    spans = word_spans(sentence.text)
    value |= {"text": sentence.text, "words": [list(span) for span in spans]}
    for role, entity in zip(("head", "tail"), sentence.pairs[0] if sentence.pairs else (), strict=False):
        own = [i for i, (start, end) in enumerate(spans) if start < entity.end and entity.start < end]
        value[role] = [own[0], own[-1] + 1] if own else None
    return value


def chosen(text: Any, picked: Any) -> Sentence:
    """The sentence with the head and tail that the visitor chose among its words, or else marked in it.

    Args:
        text: What was typed.
        picked: The picker's value, which comes from the browser and may be anything.

    Raises:
        TkreError: Head or tail is missing, or the text is too long.
    """
    typed = limits.checked_text(text, "the sentence", limits.SENTENCE_CHARACTERS)
    if not typed:
        raise TkreError("type a sentence first")
    read = read_input(typed, "sentence", 1)
    if not isinstance(picked, Mapping) or picked.get("text") != read.text:
        picked = {}
    spans, ends = word_spans(read.text), {}
    for role in ("head", "tail"):
        match picked.get(role):
            case [int(first), int(end)] if 0 <= first < end <= len(spans):
                ends[role] = [spans[first][0], spans[end - 1][1]]
    if len(ends) == 2:
        return read_input({"text": read.text, **ends}, "sentence", 1)
    if read.pairs is None or picked:
        missing = " and ".join(role for role in ("head", "tail") if role not in ends)
        raise TkreError(f"choose the {missing} among the words below the sentence")
    return read


def marked(sentence: Sentence) -> str:
    """A sentence as it is typed, with its marks."""
    assert sentence.pairs is not None
    marks = []
    for number, entity in enumerate(sentence.pairs[0], 1):
        marks += [(entity.start, f"[E{number}]"), (entity.end, f"[/E{number}]")]
    text = sentence.text
    for place, mark in sorted(marks, reverse=True):
        text = text[:place] + mark + text[place:]
    return text


def _named(relation: Any, description: Any, sentences: list[str]) -> tuple[str, list[str], str]:
    label = limits.checked_text(relation, "the relation's name", limits.LABEL_CHARACTERS)
    return label, sentences, limits.checked_text(description, "the description", limits.DESCRIPTION_CHARACTERS)


def _number(value: Any, least: int) -> float:
    if not isinstance(value, int | float) or not least <= value <= 1:
        raise TkreError(f"a threshold lies between {least} and 1")
    return float(value)
