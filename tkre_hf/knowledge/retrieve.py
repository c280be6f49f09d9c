"""The labelled rows most like a given one: demonstrations for SCDG, and for asking a language model the relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from tkre_hf.data.relations import RelationInfo
from tkre_hf.data.schema import RECORD_FEATURES, Record
from tkre_hf.errors import TkreError
from tkre_hf.knowledge.consistency import Encode, unit_rows
from tkre_hf.knowledge.prompts import (
    Message,
    PromptTemplate,
    as_data,
    as_json_line,
    entity_of,
    sentence_of,
)

_INDEX = "relation"


class DemonstrationIndex:
    """Labelled rows in a FAISS index by the relation they express (cosine similarity, exact search).

    Args:
        records: The labelled rows.
        encode: From records to relation representations ``(records, dim)``, such as a TKRE model's.

    Raises:
        TkreError: The extra ``[retrieval]`` (FAISS) is missing, or there are no rows.
    """

    def __init__(self, records: Sequence[Record], encode: Encode) -> None:
        if not len(records):
            raise TkreError("there are no labelled rows to choose demonstrations from")
        self._encode = encode
        self._records = [dict(record) for record in records]
        self._vectors = unit_rows(np.asarray(encode(self._records), np.float32))
        self._datasets: dict[str | None, Dataset] = {}

    def nearest(self, queries: Sequence[Record], k: int, *, same_relation: bool = False) -> list[list[Record]]:
        """For each query the ``k`` most similar labelled rows, the most similar first.

        Args:
            queries: Records; one that is itself among the labelled rows, by its id, is not its own neighbour.
            k: How many; fewer where there are not as many.
            same_relation: Whether only rows of the query's relation count.
        """
        if not len(queries):
            return []
        vectors = unit_rows(np.asarray(self._encode(queries), np.float32))
        return [
            self._search(query, vector, query["relation"] if same_relation else None, k)
            for query, vector in zip(queries, vectors, strict=True)
        ]

    def demonstrations(self, relation: str, attempt: int, count: int) -> list[Record]:
        """A row of the relation, another one at each attempt, and the rows of the relation most like it."""
        rows = [i for i, record in enumerate(self._records) if record["relation"] == relation]
        if not rows or count < 1:
            return []
        first = rows[attempt % len(rows)]
        return [
            self._records[first],
            *self._search(self._records[first], self._vectors[first], relation, count - 1),
        ]

    def _search(self, query: Record, vector: NDArray[np.float32], relation: str | None, k: int) -> list[Record]:
        dataset = self._indexed(relation)
        if dataset is None or k < 1:
            return []
        # One more than wanted, since the query itself may be among them.
        _, found = dataset.get_nearest_examples(_INDEX, vector, k=min(k + 1, len(dataset)))
        rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=False)]
        return [row for row in rows if row["id"] != query["id"]][:k]

    def _indexed(self, relation: str | None) -> Dataset | None:
        """The rows of a relation, or all of them, with their FAISS index."""
        if relation not in self._datasets:
            try:
                import faiss
            except ImportError:
                raise TkreError("retrieval needs FAISS: pip install 'tkre-hf[retrieval]'") from None
            rows = [i for i, row in enumerate(self._records) if relation is None or row["relation"] == relation]
            if not rows:
                return None
            own = [{name: self._records[i][name] for name in RECORD_FEATURES} for i in rows]
            dataset = Dataset.from_list(own, features=RECORD_FEATURES)
            dataset.add_faiss_index_from_external_arrays(
                external_arrays=self._vectors[rows], index_name=_INDEX, metric_type=faiss.METRIC_INNER_PRODUCT
            )
            self._datasets[relation] = dataset
        return self._datasets[relation]


def in_context_prompt(
    record: Record,
    demonstrations: Sequence[Record],
    relations: Mapping[str, RelationInfo],
    template: PromptTemplate | None = None,
) -> tuple[list[Message], dict[str, Any]]:
    """The prompt that asks a language model for a sentence's relation directly.

    Args:
        record: The sentence and its two entities; its relation is not shown.
        demonstrations: Labelled rows, the most similar first, as ``DemonstrationIndex.nearest`` gives them; the prompt
            has the most similar last, next to the question.
        relations: The labels to choose from, with what they mean.
        template: The ``icl`` prompt; by default the package's.

    Returns:
        The chat messages, and the JSON schema of the answer, whose ``relation`` is one of the labels.
    """
    template = template or PromptTemplate.load("icl")
    meanings = "\n".join(
        f"- {label}: {': '.join(filter(None, (info.name, info.description)))}" for label, info in relations.items()
    )
    shown = [
        as_json_line(
            {
                "context": sentence_of(row),
                "head_entity": entity_of(row, "head"),
                "tail_entity": entity_of(row, "tail"),
                "relation": row["relation"],
            }
        )
        for row in reversed(demonstrations)
    ]
    messages = template.render(
        {
            "relations": meanings,
            "demonstrations": "\n".join(shown) or "(none)",
            "sentence": as_data(sentence_of(record)),
            "head": as_data(entity_of(record, "head")),
            "tail": as_data(entity_of(record, "tail")),
        }
    )
    label = {"type": "string", "enum": list(relations)}
    schema = {
        "type": "object",
        "properties": {"relation": label},
        "required": ["relation"],
        "additionalProperties": False,
    }
    return messages, schema
