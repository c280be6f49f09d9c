"""spaCy's component ``tkre``: the relations between a document's entities, as ``doc._.relations``.

Example::

    import spacy

    nlp = spacy.load("en_core_web_sm")
    nlp.add_pipe("tkre", config={"model": "tkre-bert", "descriptions": {"capital of": "seat of a government"}})
    for head, relation, tail, score in nlp("Oslo is the capital of Norway.")._.relations:
        print(head, relation, tail, score)

spaCy finds it where tkre-hf is installed, and imports this module whenever it makes a pipeline: what takes seconds to
import is imported with the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from tkre_hf.errors import TkreError

try:
    from spacy.language import Language
    from spacy.tokens import Doc, Span
    from spacy.util import minibatch, raise_error
except ImportError:
    HAS_SPACY = False
else:
    HAS_SPACY = True

# Where a document keeps its relations: as plain numbers and words, which it can be saved with.
USER_DATA = "tkre_relations"


class DocRelation(NamedTuple):
    """A relation in a document.

    Args:
        head: Span of the one entity.
        relation: The relation's label.
        tail: Span of the other.
        score: Its probability among all relations and none of the above.
    """

    head: Span
    relation: str
    tail: Span
    score: float


class RelationExtractor:
    """Sets ``doc._.relations``: the best relation of every ordered pair of entities, none of the above left out.

    Entities of one sentence are paired where something set sentences before, else all of the document.

    spaCy makes it with the settings of the pipeline's configuration, which are these arguments.

    Args:
        nlp: The pipeline that it is made for.
        name: Of the component.
        model: Checkpoint: a folder or Hub id.
        descriptions: Relations by what they mean, in place of those saved with the checkpoint; a classifier's are
            fixed.
        na_threshold: Similarity below which a pair has none of them; the checkpoint's by default.
        min_score: Score below which a relation is left out.
        spans_key: Take the entities from ``doc.spans[spans_key]``; from ``doc.ents`` by default.
        batch_size: Pairs encoded at once.
        device: Such as ``cuda:1``; the accelerator by default, if there is one.

    Raises:
        TkreError: The checkpoint can't be loaded, or there are no relations.
    """

    def __init__(
        self,
        nlp: Any,
        name: str,
        model: str = "tkre-bert",
        descriptions: dict[str, str] | None = None,
        na_threshold: float | None = None,
        min_score: float = 0.0,
        spans_key: str | None = None,
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        from tkre_hf.tkre.loading import load_pipeline

        self.name, self.min_score, self.spans_key, self.batch_size = name, min_score, spans_key, batch_size
        self.extractor = load_pipeline(model, device=device)
        if descriptions:
            self.extractor.fit(descriptions=descriptions)
        if na_threshold is not None:
            self.extractor.na_threshold = na_threshold
        if not self.extractor.relations:
            raise TkreError(f"{model} knows no relations yet: give descriptions, or run 'tkre relations fit' on it")
        self._handle: Callable[..., Any] = raise_error

    def set_error_handler(self, handler: Callable[..., Any]) -> None:
        """Takes what spaCy does with a document that can't be processed."""
        self._handle = handler

    def get_error_handler(self) -> Callable[..., Any]:
        """What is done with such a document: its error is raised by default."""
        return self._handle

    def __call__(self, doc: Doc) -> Doc:
        """Finds the relations of one document."""
        return next(iter(self.pipe([doc])))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Finds the relations of documents, so many at a time.

        Args:
            stream: The documents.
            batch_size: Documents whose pairs are encoded together.
        """
        for docs in minibatch(stream, size=batch_size):
            docs = list(docs)
            try:
                self._set(docs)
            except Exception as error:
                self._handle(self.name, self, docs, error)
            yield from docs

    def _set(self, docs: list[Doc]) -> None:
        parts = [(doc, part, spans) for doc in docs for part, spans in self._parts(doc)]
        rows = []
        for _, part, spans in parts:
            places = [
                {"start": s.start_char - part.start_char, "end": s.end_char - part.start_char, "type": s.label_}
                for s in spans
            ]
            rows.append({"text": part.text, "entities": places})
        found: dict[int, list[tuple[Any, ...]]] = {i: [] for i in range(len(docs))}
        number = {id(doc): i for i, doc in enumerate(docs)}
        results = self.extractor(rows, batch_size=self.batch_size, top_k=1)
        for (doc, part, spans), entries in zip(parts, results, strict=True):
            place = {(s.start_char - part.start_char, s.end_char - part.start_char): s for s in spans}
            for entry in entries:
                if entry["relation"] is None or entry["score"] < self.min_score:
                    continue
                head, tail = (place[entry[role]["start"], entry[role]["end"]] for role in ("head", "tail"))
                ends = (head.start, head.end, head.label_, tail.start, tail.end, tail.label_)
                found[number[id(doc)]].append((*ends, entry["relation"], entry["score"]))
        for doc, relations in zip(docs, found.values(), strict=True):
            doc.user_data[USER_DATA] = relations

    def _parts(self, doc: Doc) -> Iterator[tuple[Span, list[Span]]]:
        """Stretches of text and the entities in them, two at least."""
        if self.spans_key is None:
            entities = list(doc.ents)
        elif self.spans_key in doc.spans:
            entities = list({(span.start, span.end): span for span in doc.spans[self.spans_key]}.values())
        else:
            raise TkreError(f"the document has no spans {self.spans_key!r}, but {', '.join(doc.spans) or 'none'}")
        parts = list(doc.sents) if doc.has_annotation("SENT_START") else [doc[:]]
        for part in parts:
            inside = [span for span in entities if part.start <= span.start and span.end <= part.end]
            if len(inside) > 1:
                yield part, inside


def _relations(doc: Doc) -> list[DocRelation]:
    """What ``doc._.relations`` gives."""
    found = []
    for *ends, relation, score in doc.user_data.get(USER_DATA, ()):
        head, tail = (Span(doc, start, end, label=label) for start, end, label in (ends[:3], ends[3:]))
        found.append(DocRelation(head, relation, tail, score))
    return found


# The name under which spaCy's entry point finds it.
make_extractor = RelationExtractor

if HAS_SPACY:
    _SETTINGS = list(inspect.signature(RelationExtractor).parameters.values())[2:]
    Language.factory(
        "tkre",
        default_config={setting.name: setting.default for setting in _SETTINGS},
        assigns=["doc._.relations"],
    )(RelationExtractor)
    if not Doc.has_extension("relations"):
        Doc.set_extension("relations", getter=_relations)
