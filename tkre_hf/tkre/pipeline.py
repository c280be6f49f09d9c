"""``pipeline("relation-extraction")``: from sentences to relations, with somebody's own relations or a classifier's.

``import tkre_hf`` makes transformers know the task. Which relations there are is said by a few labelled sentences of
each, by names and descriptions alone, or by a fine-tuned ``TKREForRelationClassification``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import pipeline
from transformers.pipelines.base import ChunkPipeline

from tkre_hf.data.reading import shorten
from tkre_hf.data.relations import RelationInfo
from tkre_hf.errors import InvalidRowError, TkreError

from .embedding import embed_anchors, embed_features
from .inputs import Pair, Sentence, read_input, read_supports
from .modeling_classification import TKREForRelationClassification
from .modeling_tkre import TKREForFewShotClassification
from .prototypes import PROTOTYPES, RELATIONS, RelationPrototypes

logger = logging.getLogger(__name__)

Model = TKREForFewShotClassification | TKREForRelationClassification

# A model that made prototypes finds their first anchor again; in half precision not to the last digit.
_SAME_MODEL = 0.99


@dataclass(frozen=True)
class _Sought:
    """What one row of a batch is about: ``None`` for a sentence without a pair."""

    pair: Pair | None
    truncated: bool = False


class RelationExtractionPipeline(ChunkPipeline):
    """Says which relation holds between two entities of a sentence.

    Example::

        import tkre_hf
        from transformers import pipeline

        pipe = pipeline("relation-extraction", model="tkre-bert")
        pipe.fit(descriptions={"capital of": "city that is the seat of a government"})
        pipe("[E1]Oslo[/E1] is the capital of [E2]Norway[/E2].")

    A sentence is a text with marks around head and tail (``[E1]…[/E1]``, ``[E2]…[/E2]``, or ``<e1>``, ``<e2>``), or a
    mapping: ``text`` with character spans or ``words`` with word spans, which are ``head`` and ``tail`` or, for all
    ordered pairs, ``entities`` (``inputs.read_sentence``). A text without any of these has its entities found by
    ``ner``. A list gives a list of results, any other iterable (a generator, a data set) an iterator.

    A result is a list of dicts, for each pair the ``top_k`` best (1 by default, ``None`` for all): ``relation``, its
    label, or ``None`` for none of the above, whichever model says so; ``na_label``, beside that ``None``, what a
    classifier calls it; ``score``, its probability among all relations and none of the above; ``similarity``, the
    cosine of sentence and prototype, or the threshold of none of the above (not from a classifier); ``head`` and
    ``tail``, dicts of ``start``, ``end`` and ``text`` (and ``type``, where it is known); and ``truncated``, whether
    the window cut the sentence.

    Args:
        model: A few-shot model or a classifier; ``pipeline()`` loads one by its name.
        processor: Its processor.
        ner: A token classification pipeline, or the name of such a model, that finds a text's entities.
        top_k: See above; also an argument of each call.
        **kwargs: As of any pipeline: ``device``, ``batch_size`` …

    Raises:
        TkreError: The model is of another kind, or its prototypes are another model's. In a call: an
            ``InvalidRowError`` that names the input and the field; or there are no relations yet.
    """

    # Writes the card of a folder that was saved to. A family knows nothing of cards: who wires the parts together sets
    # it (``tkre_hf.hub.pipelines``, which the public name and the task come from).
    card_writer: ClassVar[Callable[[RelationExtractionPipeline, Path, bool], None] | None] = None

    _load_processor: Any = True
    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False

    model: Any
    processor: Any
    tokenizer: Any

    def __init__(self, *args: Any, ner: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.model, Model):
            raise TkreError(
                f"relation-extraction takes a few-shot model or a classifier of relations, not a "
                f"{type(self.model).__name__}: save it, and give the folder's name as the model"
            )
        self.model.eval()
        # A folder by its whole path: where the program is may change.
        name = self.model.name_or_path
        self.checkpoint = str(Path(name).resolve()) if name and Path(name).is_dir() else name
        # As the processor pads: the places of the entities count from the left.
        self.tokenizer.padding_side = "right"
        self.ner = pipeline("token-classification", model=ner, device=self.device) if isinstance(ner, str) else ner
        self.prototypes: RelationPrototypes | None = vars(self.model).pop("saved_prototypes", None)
        if self.prototypes is not None and self.prototypes.relations:
            anchor = self._anchors(self.prototypes.info[:1])
            stored = self.prototypes.anchors[:1]
            if anchor.shape != stored.shape or float((anchor * stored).sum()) < _SAME_MODEL:
                raise TkreError(
                    f"the {PROTOTYPES} beside {self.model.name_or_path} were made by another model: fit the "
                    "relations anew"
                )

    @property
    def relations(self) -> list[str]:
        """The labels it knows, none of the above not among them."""
        return [answer["relation"] for answer in self._answers() if answer["relation"] is not None]

    @property
    def na_threshold(self) -> float | None:
        """Cosine below which a sentence has none of the relations; ``None`` if one always has. May be set.

        ``fit`` sets it: to what serves best where each support in turn is taken out, if there are three relations at
        least with two supports each; else to the model's own, which ``config.na_threshold`` holds.
        """
        return self.prototypes.na_threshold if self.prototypes is not None else None

    @na_threshold.setter
    def na_threshold(self, value: float | None) -> None:
        self.prototypes = replace(self._known(), na_threshold=value)

    def fit(
        self,
        supports: Iterable[Any] | Mapping[str, Iterable[Any]] = (),
        descriptions: Mapping[str, str | RelationInfo] | None = None,
    ) -> RelationExtractionPipeline:
        """Learns relations, in place of all that were known.

        Args:
            supports: Labelled sentences: mappings like a call's, with ``relation``; or for each relation its
                sentences. A few of each will do, and it may be none.
            descriptions: For each relation what it means, as text or with another name than the label. A relation
                without one is known by its label's own words.

        Returns:
            The pipeline itself.

        Raises:
            TkreError: There is no relation, a support is wrong, or the model is a classifier.
        """
        model = self._few_shot()
        if descriptions is not None and not isinstance(descriptions, Mapping):
            raise TkreError(
                f"descriptions is {shorten(descriptions)}: expected a mapping, from each relation to what it means"
            )
        labels, sentences = read_supports(supports)
        listed = supports if isinstance(supports, Mapping) else ()
        relations = list(dict.fromkeys([*(descriptions or {}), *listed, *labels]))
        if not relations:
            raise TkreError("there is no relation to learn: give supports, descriptions, or both")
        info = [_info(relation, (descriptions or {}).get(relation, "")) for relation in relations]
        numbers = {relation: number for number, relation in enumerate(relations)}
        self.prototypes = RelationPrototypes.fit(
            model,
            relations,
            info,
            self._anchors(info),
            self._embed(sentences),
            torch.tensor([numbers[label] for label in labels], dtype=torch.long),
        )
        return self

    def add(
        self, relation: str, supports: Iterable[Any] = (), description: str = "", name: str = ""
    ) -> RelationExtractionPipeline:
        """Learns one relation more; the others' similarities, and the threshold of none of the above, stay.

        Args:
            relation: The label.
            supports: Labelled sentences, as for :meth:`fit`; they need not say the relation again.
            description: What it means.
            name: Its name, if the label's own words aren't.

        Returns:
            The pipeline itself.

        Raises:
            TkreError: It is known already, a support is wrong, or the model is a classifier.
        """
        if relation in self.relations:
            raise TkreError(f"the relation {relation!r} is known already: remove it first")
        if self.prototypes is None:
            return self.fit({relation: supports}, {relation: _info(relation, description, name)})
        model = self._few_shot()
        info = _info(relation, description, name)
        _, sentences = read_supports({relation: supports})
        self.prototypes = self.prototypes.add(model, relation, info, self._anchors([info]), self._embed(sentences))
        return self

    def remove(self, relation: str) -> RelationExtractionPipeline:
        """Forgets a relation; the others' similarities, and the threshold of none of the above, stay.

        Returns:
            The pipeline itself.

        Raises:
            TkreError: It isn't known.
        """
        known = self._known()
        if relation not in known.relations:
            raise TkreError(f"there is no relation {relation!r} to remove, but {', '.join(known.relations)}")
        self.prototypes = known.remove(relation) if len(known.relations) > 1 else None
        return self

    def save_relations(self, save_directory: str | os.PathLike[str]) -> None:
        """Writes the relations alone, beside the checkpoint that made them, and its card anew.

        Where there are no relations, their files go. A card that a person edited stays.

        Args:
            save_directory: The checkpoint's folder.
        """
        self._save_relations(Path(save_directory), is_copy=False)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Writes model, processor, relations and card: a folder, to load or to upload, that is the pipeline.

        Args:
            save_directory: The folder; it is made if need be.
            **kwargs: As of the model's ``save_pretrained``.
        """
        folder = Path(save_directory)
        self.model.save_pretrained(folder, **kwargs)
        self.processor.save_pretrained(folder)
        self._save_relations(folder, is_copy=True)

    def _save_relations(self, folder: Path, is_copy: bool) -> None:
        if self.prototypes is not None:
            self.prototypes.save(folder)
        else:
            for file in (PROTOTYPES, RELATIONS):
                (folder / file).unlink(missing_ok=True)
        writer = type(self).card_writer
        if writer is not None:
            writer(self, folder, is_copy)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Extracts the relations of a sentence, or of several.

        Args:
            inputs: See the class.
            **kwargs: ``top_k``, ``batch_size``, ``num_workers``.
        """
        if not self.relations:
            raise TkreError("there are no relations yet: give pipe.fit() labelled sentences, or descriptions, of some")
        batch_size = kwargs.get("batch_size") or self._batch_size or 1
        if isinstance(inputs, str | Mapping | Sentence):
            (sentence,) = self._read([inputs], batch_size)
            return super().__call__(sentence, **kwargs)
        if isinstance(inputs, Dataset) and not isinstance(inputs, Iterable):
            # Such as transformers' KeyDataset, a data set's column: it has a length and places, and no iterator.
            inputs = map(inputs.__getitem__, range(len(inputs)))  # type: ignore[arg-type]
        if not isinstance(inputs, Iterable):
            raise TkreError(f"expected a sentence or several, found {type(inputs).__name__}")
        sentences = self._read(inputs, batch_size)
        if not isinstance(inputs, list | tuple):
            return super().__call__(sentences, **kwargs)
        # All are read before the first is encoded, so that a wrong one costs no time; and those of like length go
        # together, so that little is padding.
        rows = list(sentences)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].text))
        results = super().__call__([rows[i] for i in order], **kwargs) if rows else []
        return [result for _, result in sorted(zip(order, results, strict=True), key=lambda pair: pair[0])]

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown := sorted(parameters.keys() - {"top_k"}):
            raise TypeError(f"relation-extraction has no argument {unknown[0]!r}; it has ner and top_k")
        top_k = parameters.get("top_k")
        if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
            raise TkreError(f"top_k is {top_k!r}; expected a whole number, at least 1, or None for all")
        return {}, {}, parameters

    def preprocess(self, sentence: Any) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The model's inputs for each pair of a sentence; for one without pairs a row that stands for it."""
        if not isinstance(sentence, Sentence):
            (sentence,) = self._read([sentence], 1)
        encoded = self._encode([sentence]) if sentence.encoded is None else sentence.encoded
        if not encoded:
            ids = torch.tensor([[self.tokenizer.pad_token_id]])
            spans = torch.zeros((1, 2, 2), dtype=torch.long)
            yield self._row(ids, spans, _Sought(None), is_last=True)
        for i, (pair, features) in enumerate(zip(sentence.pairs or (), encoded, strict=True)):
            ids, spans = torch.tensor([features["input_ids"]]), torch.tensor([features["entity_spans"]])
            yield self._row(ids, spans, _Sought(pair, features["truncated"]), is_last=i + 1 == len(encoded))

    @staticmethod
    def _row(ids: Tensor, spans: Tensor, sought: _Sought, is_last: bool) -> dict[str, Any]:
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "entity_spans": spans}
        return {**inputs, "sought": sought, "is_last": is_last}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        inputs = {name: model_inputs[name] for name in ("input_ids", "attention_mask", "entity_spans")}
        rest = {name: model_inputs[name] for name in ("sought", "is_last")}
        if isinstance(self.model, TKREForRelationClassification):
            return {"scores": self.model(**inputs).logits.float().softmax(-1), **rest}
        known, tau = self._known(), self.model.config.tau
        logits = self.model(**inputs, prototypes=known.prototypes.to(self.device)).logits
        # The model's own threshold may be another one than these relations'.
        logits = logits[:, : len(known.relations)]
        if known.na_threshold is not None:
            logits = torch.cat([logits, logits.new_full((len(logits), 1), known.na_threshold / tau)], dim=1)
        return {"scores": logits.softmax(-1), "similarities": logits * tau, **rest}

    def postprocess(  # type: ignore[override]
        self, model_outputs: list[dict[str, Any]], top_k: int | None = 1
    ) -> list[dict[str, Any]]:
        """The best relations of each pair, best first."""
        answers = self._answers()
        found = []
        for output in model_outputs:
            sought: _Sought = output["sought"]
            if sought.pair is None:
                continue
            scores = output["scores"][0].tolist()
            similarities = output["similarities"][0].tolist() if "similarities" in output else None
            for i in sorted(range(len(scores)), key=lambda i: -scores[i])[:top_k]:
                entry = {**answers[i], "score": scores[i]}
                if similarities is not None:
                    entry["similarity"] = similarities[i]
                head, tail = (entity.to_dict() for entity in sought.pair)
                found.append({**entry, "head": head, "tail": tail, "truncated": sought.truncated})
        return found

    def _answers(self) -> list[dict[str, Any]]:
        """What each score is of, as an entry of the result begins."""
        if not isinstance(self.model, TKREForRelationClassification):
            known = self.prototypes.relations if self.prototypes is not None else ()
            return [{"relation": relation} for relation in (*known, None)]
        config = self.model.config
        labels = [config.id2label[number] for number in range(len(config.id2label))]  # type: ignore[index, arg-type]
        return [{"relation": None, "na_label": x} if x == config.na_label else {"relation": x} for x in labels]

    def tokenized(self, sentence: Sentence) -> Sentence:
        """The sentence with its tokens, which a call then takes as they are.

        Raises:
            InvalidRowError: An entity can't be marked, or the window can't hold both.
        """
        return replace(sentence, encoded=tuple(self._encode([sentence])))

    def _read(self, inputs: Iterable[Any], batch_size: int) -> Iterator[Sentence]:
        """Reads sentences, and has the entities found of those that lack them, so many at a time."""
        sentences = (read_input(value, "inputs", i) for i, value in enumerate(inputs))
        while window := list(islice(sentences, batch_size)):
            found = self._tagged(window, batch_size)
            for sentence in window:
                yield sentence if sentence.pairs is not None else sentence.with_entities(next(found))

    def readable(self, sentences: Sequence[Sentence], batch_size: int) -> list[Sentence | InvalidRowError]:
        """Each sentence with its entities and tokens, or the error of one that a call would end with."""
        found = self._tagged(sentences, batch_size)
        read: list[Sentence | InvalidRowError] = []
        for sentence in sentences:
            try:
                whole = sentence if sentence.pairs is not None else sentence.with_entities(next(found))
                read.append(whole if whole.encoded is not None else self.tokenized(whole))
            except InvalidRowError as error:
                read.append(error)
        return read

    def _tagged(self, sentences: Sequence[Sentence], batch_size: int) -> Iterator[Any]:
        """What ``ner`` finds in those sentences that lack their entities."""
        texts = [sentence.text for sentence in sentences if sentence.pairs is None]
        if texts and self.ner is None:
            raise next(sentence for sentence in sentences if sentence.pairs is None).unmarked()
        params = getattr(self.ner, "_postprocess_params", {})
        strategy = {} if "aggregation_strategy" in params else {"aggregation_strategy": "simple"}
        return iter(self.ner(texts, batch_size=batch_size, **strategy) if texts else ())

    def _encode(self, sentences: Sequence[Sentence]) -> list[dict[str, Any]]:
        """The processor's features of all pairs."""
        try:
            encoded: list[dict[str, Any]] = self.processor.encode([r for s in sentences for r in s.records()])
        except InvalidRowError:
            raise
        except ValueError as error:  # an entity that can't be marked, or that the window can't hold
            for sentence in sentences:
                self._blame(sentence)
            raise TkreError(str(error)) from error
        return encoded

    def _blame(self, sentence: Sentence) -> None:
        """Raises the error of a sentence, if it is this one's, with the place where that stands."""
        for record in sentence.records():
            try:
                self.processor.encode([record])
            except ValueError as error:
                reason = str(error).removeprefix(f"record {record['id']!r}: ")
                raise sentence.row.error(sentence.field(getattr(error, "role", None)), reason) from None

    def _embed(self, sentences: Sequence[Sentence]) -> Tensor:
        encoded = self._encode(sentences)
        if lost := sum(features["truncated"] for features in encoded):
            logger.warning("%d of %d supports were truncated", lost, len(encoded))
        return embed_features(self.model.tkre, self.processor, encoded)

    def _anchors(self, info: Sequence[RelationInfo]) -> Tensor:
        return embed_anchors(self.model.tkre, self.processor, info)

    def _few_shot(self) -> TKREForFewShotClassification:
        if isinstance(self.model, TKREForRelationClassification):
            raise TkreError(
                "the model is a classifier, whose relations are fixed: take a few-shot model to learn others"
            )
        model: TKREForFewShotClassification = self.model
        return model

    def _known(self) -> RelationPrototypes:
        self._few_shot()
        if self.prototypes is None:
            raise TkreError("there are no relations yet: give pipe.fit() labelled sentences, or descriptions, of some")
        return self.prototypes


def _info(relation: str, description: str | RelationInfo, name: str = "") -> RelationInfo:
    info = description if isinstance(description, RelationInfo) else RelationInfo(name or str(relation), description)
    info.check(relation, "descriptions")
    given = name or isinstance(description, RelationInfo)
    return info if given else replace(info, name=RelationInfo.from_label(relation).name)
