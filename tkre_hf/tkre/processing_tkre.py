"""TKRE's processor: from words or text with a head and a tail to what the model reads.

Copied beside a checkpoint together with ``markers.py`` and ``words.py``, so it imports only these, numpy, torch and
transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from .markers import ROLES, get_marker
from .words import split_text

# What a token is to masked span language modeling; SPECIAL tokens and markers are never masked.
SPECIAL, OTHER, ENTITY, CUE = range(4)

Span = Sequence[int]


class EntityError(ValueError):
    """What is wrong with one entity of a record.

    Args:
        reason: It.
        role: Which one: ``"head"`` or ``"tail"``.
    """

    def __init__(self, reason: str, role: str) -> None:
        super().__init__(reason)
        self.role = role


# Settings of a model that ``pipeline()`` hands to the processor too. Its tokenizer would keep them, and save them: a
# type of numbers can't be saved.
_OF_THE_MODEL = (
    "attn_implementation",
    "device_map",
    "dtype",
    "max_memory",
    "offload_folder",
    "quantization_config",
    "torch_dtype",
    "use_safetensors",
    "variant",
    "with_relations",
)


class TKREProcessor(ProcessorMixin):
    """Marks entities, tokenizes, and keeps both entities inside the window.

    Args:
        tokenizer: The encoder's tokenizer, a fast one; the strategy's markers are added to it.
        marker: Name of the entity marker strategy.
        max_length: The longest sequence, markers and special tokens included. A longer sentence keeps both entities
            and the words nearest to them, and counts as truncated.
        entity_types: The types that a typed strategy with special tokens has markers for.
    """

    attributes = ["tokenizer"]
    tokenizer_class = "AutoTokenizer"
    model_input_names = ["input_ids", "attention_mask", "entity_spans"]

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        marker: str = "entity_marker",
        max_length: int = 128,
        entity_types: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        self.marker = marker
        self.max_length = max_length
        self.entity_types = list(entity_types)
        self._strategy = get_marker(marker)
        self._seeds = self._strategy.special_tokens(self.entity_types)
        if not tokenizer.is_fast:
            raise ValueError("TKREProcessor needs a fast tokenizer, one that knows which word a token comes from")
        for name in _OF_THE_MODEL:
            tokenizer.init_kwargs.pop(name, None)
        tokenizer.add_tokens(list(self._seeds), special_tokens=True)
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        full = tokenizer("a")["input_ids"]
        start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
        self._prefix, self._suffix = full[:start], full[start + len(bare) :]
        super().__init__(tokenizer)

    @classmethod
    def from_backbone(
        cls, backbone: str, tokenizer_kwargs: dict[str, Any] | None = None, **kwargs: Any
    ) -> TKREProcessor:
        """Starts from an encoder's own tokenizer: a folder or Hub id, and the settings of the processor."""
        options = tokenizer_kwargs or {}
        tokenizer = AutoTokenizer.from_pretrained(backbone, **options)
        if getattr(tokenizer, "add_prefix_space", None) is False:
            # Byte-level tokenizers read a word of its own only with a space before it.
            tokenizer = AutoTokenizer.from_pretrained(backbone, add_prefix_space=True, **options)
            splitter = tokenizer.backend_tokenizer.pre_tokenizer
            if getattr(splitter, "add_prefix_space", None) is False:
                # transformers 5 passes it on for the tokenizers that have a class of their own only.
                splitter.add_prefix_space = True
        return cls(tokenizer, **kwargs)

    @property
    def new_tokens(self) -> dict[int, list[int]]:
        """For each marker token, the ids of the punctuation whose mean embedding it starts from."""
        ids = self.tokenizer.convert_tokens_to_ids
        return {ids(token): self._pieces(seed) for token, seed in self._seeds.items()}

    def _pieces(self, text: str) -> list[int]:
        return self.tokenizer([text], is_split_into_words=True, add_special_tokens=False)["input_ids"]

    def _marker_ids(self, pieces: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for piece in pieces:
            if piece in self._seeds:
                ids.append(self.tokenizer.convert_tokens_to_ids(piece))
            elif self._strategy.special:
                known = ", ".join(self.entity_types) or "none"
                raise ValueError(f"no marker {piece} for this entity type; entity_types has: {known}")
            else:
                ids += self._pieces(piece)
        return ids

    def encode(self, records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Encodes records (see ``tkre_hf.data.schema``) without padding.

        Returns:
            For each record ``input_ids`` and, of the same length, ``roles`` (``SPECIAL``, ``OTHER``, ``ENTITY``,
            ``CUE``) and ``units`` (tokens that are masked together share a number; -1 for none); ``entity_spans``,
            two spans with their markers; ``cue_spans``, what says the relation: the record's cues, or else what
            stands between the entities; ``truncated``; and ``cues_lost``, the cues that fell outside the window.

        Raises:
            ValueError: An entity's type has no marker, the tokenizer leaves nothing of an entity, or the entities
                alone are longer than the window.
        """
        records = list(records)
        if not records:
            return []
        batch = self.tokenizer(
            [list(record["tokens"]) for record in records],
            is_split_into_words=True,
            add_special_tokens=False,
            # "[SEP]" or "[E1]" in somebody's text is text.
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )
        encoded = []
        for i, record in enumerate(records):
            words: list[list[int]] = [[] for _ in record["tokens"]]
            for token, word in zip(batch["input_ids"][i], batch.word_ids(i), strict=True):
                words[word].append(token)
            try:
                encoded.append(self._encode_words(words, record))
            except EntityError as error:
                raise EntityError(f"record {record.get('id', i)!r}: {error}", error.role) from None
            except ValueError as error:
                raise ValueError(f"record {record.get('id', i)!r}: {error}") from None
        return encoded

    def _encode_words(self, words: list[list[int]], record: Mapping[str, Any]) -> dict[str, Any]:
        spans = [(record[role]["start"], record[role]["end"]) for role in ROLES]
        types = [record[role].get("type", "") for role in ROLES]
        before = [self._marker_ids(self._strategy.before(role, types[role])) for role in (0, 1)]
        after = [self._marker_ids(self._strategy.after(role, types[role])) for role in (0, 1)]
        for entity, (start, end) in zip(ROLES, spans, strict=True):
            if not self._strategy.keeps_words:
                words[start:end] = [[] for _ in range(end - start)]
            elif not any(words[start:end]):
                name = ascii(" ".join(record["tokens"][start:end]))
                raise EntityError(f"the tokenizer leaves nothing of the {entity} {name}: take it out", entity)
        kept = self._window(words, spans, sum(map(len, [*before, *after])))
        cues = [(cue["start"], cue["end"]) for cue in record.get("cues") or ()]
        roles, units = _mask_plan(record["tokens"], spans, cues)

        ids = list(self._prefix)
        token_roles, token_units = [SPECIAL] * len(ids), [-1] * len(ids)
        place = np.zeros(len(words) + 1, dtype=np.int64)  # where each word begins among the tokens
        entity_spans = [[0, 0], [0, 0]]

        def mark(pieces: list[int]) -> None:
            ids.extend(pieces)
            token_roles.extend([SPECIAL] * len(pieces))
            token_units.extend([-1] * len(pieces))

        # An entity inside the other closes before it and opens after it.
        longer_first = sorted((0, 1), key=lambda role: spans[role][0] - spans[role][1])
        for i in range(len(words) + 1):
            for role in reversed(longer_first):
                if spans[role][1] == i:
                    mark(after[role])
                    entity_spans[role][1] = len(ids)
            for role in longer_first:
                if spans[role][0] == i:
                    entity_spans[role][0] = len(ids)
                    mark(before[role])
            place[i] = len(ids)
            if i < len(words) and kept[i]:
                ids.extend(words[i])
                token_roles.extend([roles[i]] * len(words[i]))
                token_units.extend([units[i]] * len(words[i]))
        mark(list(self._suffix))

        inside = [bool(kept[start:end].any()) for start, end in cues]
        if not cues:
            first, second = sorted(spans)
            cues, inside = [(first[1], second[0])], [first[1] < second[0]]
        cue_spans = [
            [int(place[start]), int(place[end - 1]) + len(words[end - 1]) * int(kept[end - 1])]
            for (start, end), kept_cue in zip(cues, inside, strict=True)
            if kept_cue
        ]
        return {
            "input_ids": ids,
            "roles": token_roles,
            "units": token_units,
            "entity_spans": entity_spans,
            "cue_spans": [span for span in cue_spans if span[0] < span[1]],
            "truncated": not bool(kept.all()),
            "cues_lost": len(record.get("cues") or ()) - sum(inside) if record.get("cues") else 0,
        }

    def _window(self, words: list[list[int]], spans: list[tuple[int, int]], marker_length: int) -> np.ndarray:
        """Which words stay: all if they fit; else the entities and as many of the nearest others as fit."""
        lengths = np.array([len(word) for word in words])
        room = self.max_length - len(self._prefix) - len(self._suffix) - marker_length
        kept = np.ones(len(words), dtype=bool)
        if lengths.sum() <= room:
            return kept
        index = np.arange(len(words))
        distance = np.min([np.maximum(start - index, index - end + 1) for start, end in spans], axis=0)
        order = np.argsort(np.maximum(distance, 0), kind="stable")
        kept[order] = np.cumsum(lengths[order]) <= room
        if not kept[distance <= 0].all():
            taken = int(lengths[distance <= 0].sum()) + self.max_length - room
            raise ValueError(f"the two entities alone take {taken} tokens; raise max_length, now {self.max_length}")
        return kept

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        *,
        words: Sequence[str] | Sequence[Sequence[str]] | None = None,
        head: Span | Sequence[Span],
        tail: Span | Sequence[Span],
        head_type: str | Sequence[str] = "",
        tail_type: str | Sequence[str] = "",
    ) -> BatchFeature:
        """Makes padded model inputs of one sentence or of several.

        Args:
            text: Text, in which ``head`` and ``tail`` are character spans, end exclusive; or a list of texts. It is
                split as ``tkre_hf.data.tokenize_text`` does.
            words: Instead of text a list of words, in which they are word spans; or a list of such lists.
            head: The head's span, or for several sentences a list of spans. ``tail`` likewise.
            head_type: The head's type, or a list of types; only typed markers show it. ``tail_type`` likewise.

        Returns:
            ``input_ids`` and ``attention_mask`` ``(batch, seq_len)``, ``entity_spans`` ``(batch, 2, 2)``, and
            ``truncated`` ``(batch,)``.

        Raises:
            ValueError: A span lies outside its sentence, is empty or reversed, or the entities don't fit the window.
        """
        if (text is None) == (words is None):
            raise ValueError("give either text (with character spans) or words (with word spans)")
        if text is not None:
            single = isinstance(text, str)
            sentences: list[Any] = [text] if single else list(text)
        else:
            assert words is not None
            single = not words or isinstance(words[0], str)
            sentences = [words] if single else list(words)
        count = len(sentences)
        columns: dict[str, Any] = {"head": [head] if single else head, "tail": [tail] if single else tail}
        types = {"head": head_type, "tail": tail_type}
        columns |= {f"{role}_type": [type] * count if isinstance(type, str) else type for role, type in types.items()}
        for name, column in columns.items():
            if len(column) != count:
                raise ValueError(f"{count} sentences, but {len(column)} values for {name}")
        records = []
        for i, sentence in enumerate(sentences):
            spans: list[tuple[int, int]] = [tuple(columns[role][i]) for role in ROLES]
            for role, (start, end) in zip(ROLES, spans, strict=True):
                if not 0 <= start < end <= len(sentence):
                    unit = "characters" if text is not None else "words"
                    raise ValueError(
                        f"sentence {i}: the {role} [{start}, {end}) is no span of its {len(sentence)} {unit}"
                    )
            tokens = list(sentence)
            if text is not None:
                tokens, _, spans = split_text(sentence, spans)
            entities = {
                role: {"start": start, "end": end, "type": columns[f"{role}_type"][i]}
                for role, (start, end) in zip(ROLES, spans, strict=True)
            }
            records.append({"id": i, "tokens": tokens, **entities})
        encoded = self.encode(records)
        inputs = self.pad([row["input_ids"] for row in encoded])
        inputs["entity_spans"] = torch.tensor([row["entity_spans"] for row in encoded])
        inputs["truncated"] = torch.tensor([row["truncated"] for row in encoded])
        return BatchFeature(inputs)

    def encode_anchors(self, names: Sequence[str], descriptions: Sequence[str] | None = None) -> list[list[int]]:
        """Token ids of relations as text, ``name: description`` or the name alone, without padding."""
        descriptions = descriptions if descriptions is not None else [""] * len(names)
        texts = [
            f"{name}: {description}" if description else name
            for name, description in zip(names, descriptions, strict=True)
        ]
        return self.tokenizer(
            texts, truncation=True, max_length=self.max_length, split_special_tokens=True, verbose=False
        )["input_ids"]

    def pad(self, sequences: Sequence[Sequence[int]], value: int | None = None) -> dict[str, torch.Tensor]:
        """Pads to the longest: ``input_ids`` and ``attention_mask``, both ``(batch, seq_len)``."""
        lengths = np.array([len(sequence) for sequence in sequences])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.tokenizer.pad_token_id if value is None else value, dtype=np.int64)
        ids[mask] = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask.astype(np.int64))}


TKREProcessor.register_for_auto_class()


def _mask_plan(
    tokens: Sequence[str], spans: Sequence[tuple[int, int]], cues: Sequence[tuple[int, int]]
) -> tuple[list[int], list[int]]:
    """Each word's role in masked span language modeling, and the unit that it is masked with.

    An entity is one unit with all its mentions, or another mention would give it away; a quoted cue is one unit. Where
    nothing is quoted, the words between the entities are cues one by one: as one unit they'd leave nothing to go by.
    """
    roles, units = [OTHER] * len(tokens), list(range(len(tokens)))

    def assign(start: int, end: int, role: int, unit: int | None) -> None:
        for i in range(start, end):
            roles[i] = role
            if unit is not None:
                units[i] = unit

    if cues:
        for start, end in cues:
            assign(start, end, CUE, start)
    else:
        first, second = sorted(spans)
        assign(first[1], second[0], CUE, None)
    folded = [token.casefold() for token in tokens]
    # The longer name last: "York" would cut "New York City" in two, and one part would give the other away.
    for role, (start, end) in sorted(enumerate(spans), key=lambda entity: entity[1][1] - entity[1][0]):
        name = folded[start:end]
        for i in range(len(folded) - len(name) + 1):
            if folded[i] == name[0] and folded[i : i + len(name)] == name:
                assign(i, i + len(name), ENTITY, len(tokens) + role)
    return roles, units
