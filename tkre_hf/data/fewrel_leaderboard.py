"""The FewRel leaderboard's test input and predictions: read the one, write the other, submit.

The relations of its test sentences are hidden: it gives out episodes of one query, and takes back a number for each.

Test input: a JSON list of ``{"meta_train": [[sentence, ... k_shot], ... n_way], "meta_test": sentence}``, sentences as
in FewRel's files; newer files have ``"relation": [label, ... n_way]`` too, in the order of ``meta_train``.

Predictions: a JSON list with, for each episode, the place of the query's relation in ``meta_train``, counted from 0,
or -1 for none of the above. A submission is a ZIP file of ``pred-5-1.json`` and so on (n_way, k_shot).

What was verified, and how: the organisers' replies in thunlp/FewRel's issues 51 (submissions are prediction files in
JSON, through a CodaLab competition) and 53 (a version of the input with relations); the two input formats, the list of
numbers and the file names, from the published code of several systems that were submitted (MAML and Knowledge-Plugin
for the input, SimpleFSRE for the names, MCMN for -1). The competition's own page could not be seen: not verified are
that -1 is its only spelling of none of the above, and that its ZIP file holds the predictions without a folder.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from tkre_hf.data.episodes import Episode, EpisodeDataset
from tkre_hf.data.fewrel import format_sentence, parse_sentence
from tkre_hf.data.reading import RowView, read_json, shorten
from tkre_hf.data.schema import Record
from tkre_hf.errors import InvalidRowError, TkreError

# A record needs a label, and these have none that is known.
HIDDEN_RELATION = "hidden"


@dataclass(frozen=True)
class LeaderboardInput:
    """The leaderboard's episodes, each distinct sentence once.

    Args:
        records: The sentences, with ``HIDDEN_RELATION`` as their relation.
        episodes: All episodes, as rows of ``records``: ``support`` is ``(episodes, n_way, k_shot)``, ``query`` is
            ``(episodes, 1)``. ``query_label`` is -1 throughout, being unknown. ``relations``, ``(episodes, n_way)``,
            are indices into ``relation_names``, -1 where the file has none.
        relation_names: The labels that the file names, sorted; empty if it names none.
    """

    records: list[Record]
    episodes: Episode
    relation_names: tuple[str, ...]


def read_test_input(path: str | Path) -> LeaderboardInput:
    """Reads the leaderboard's test input.

    Raises:
        InvalidRowError: An entry is wrong, or differs from the first in n_way or k_shot; names entry and field.
        TkreError: There is no such file.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise InvalidRowError(path, 1, "", 'expected a list of {"meta_train", "meta_test"}')
    sentences = _Sentences(path)
    support, query, labels = [], [], []
    shape: tuple[int, int] | None = None
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidRowError(path, f"[{number}]", "", f"expected an object, found {shorten(entry)}")
        row = RowView(path, f"[{number}]", entry)
        groups = row.get("meta_train", list)
        sizes = {len(group) if isinstance(group, list) else -1 for group in groups}
        if len(sizes) != 1 or sizes <= {-1, 0}:
            raise row.error("meta_train", "expected for each relation a list of as many sentences")
        found = (len(groups), sizes.pop())
        shape = shape or found
        if found != shape:
            raise row.error(
                "meta_train", f"is {found[0]}-way {found[1]}-shot, but the first is {shape[0]}-way {shape[1]}-shot"
            )
        support.append(
            [
                [sentences.index(number, f"meta_train[{i}][{j}]", sentence) for j, sentence in enumerate(group)]
                for i, group in enumerate(groups)
            ]
        )
        query.append([sentences.index(number, "meta_test", row.get("meta_test", dict))])
        names = row.get("relation", list, default=[None] * len(groups))
        if len(names) != len(groups) or not all(isinstance(name, str | None) for name in names):
            raise row.error("relation", f"expected {len(groups)} labels, found {shorten(names)}")
        labels.append(names)

    relation_names = tuple(sorted({name for names in labels for name in names if name is not None}))
    places = {name: i for i, name in enumerate(relation_names)}
    queries = np.array(query, dtype=np.int64)
    episodes = Episode(
        support=np.array(support, dtype=np.int64),
        query=queries,
        query_label=np.full_like(queries, -1),
        relations=np.array([[places.get(name, -1) for name in names] for names in labels], dtype=np.int64),
    )
    return LeaderboardInput(sentences.records, episodes, relation_names)


def write_test_input(path: str | Path, records: Dataset, episodes: EpisodeDataset) -> list[int]:
    """Writes episodes of one's own data as the leaderboard would, for a rehearsal.

    Args:
        path: The file to write; it appears, or is replaced, when it is whole.
        records: The rows that ``episodes`` was drawn from.
        episodes: Each query of an episode becomes an entry.

    Returns:
        For each entry the right prediction.
    """
    rows = [format_sentence(record) for record in records]
    answers: list[int] = []

    def entries() -> Iterator[dict[str, Any]]:
        for episode in episodes:
            train = [[rows[i] for i in group] for group in episode.support.tolist()]
            relation = [episodes.relation_names[i] for i in episode.relations]
            answers.extend(episode.query_label.tolist())
            for query in episode.query.tolist():
                yield {"meta_train": train, "meta_test": rows[query], "relation": relation}

    with _whole(Path(path)) as part, part.open("w", encoding="utf-8") as file:
        file.write("[")
        for i, entry in enumerate(entries()):
            file.write(("," if i else "") + "\n" + json.dumps(entry, ensure_ascii=False))
        file.write("\n]\n")
    return answers


def read_predictions(path: str | Path, n_way: int) -> list[int]:
    """Reads predictions.

    Raises:
        InvalidRowError: The file is no JSON list of whole numbers from -1 to ``n_way - 1``.
    """
    predictions = read_json(path)
    if not isinstance(predictions, list):
        raise InvalidRowError(path, 1, "", f"expected a list of predictions, found {shorten(predictions)}")
    for i, prediction in enumerate(predictions):
        if type(prediction) is not int or not -1 <= prediction < n_way:
            raise InvalidRowError(path, f"[{i}]", "", _out_of_range(prediction, n_way))
    return predictions


def write_predictions(path: str | Path, predictions: Sequence[int], n_way: int) -> None:
    """Writes predictions; the file appears, or is replaced, when it is whole.

    Args:
        path: The file to write.
        predictions: For each episode the place of the query's relation, -1 for none of the above.
        n_way: Relations in an episode.

    Raises:
        TkreError: A prediction is out of range; nothing is written.
    """
    with _whole(Path(path)) as part:
        part.write_text(_format_predictions(predictions, n_way), encoding="utf-8")


def write_submission(path: str | Path, predictions: Mapping[tuple[int, int], Sequence[int]]) -> None:
    """Writes the ZIP file to submit, with one file of predictions for each setting.

    Args:
        path: The ZIP file to write; it appears, or is replaced, when it is whole.
        predictions: For each ``(n_way, k_shot)`` its predictions.

    Raises:
        TkreError: A prediction is out of range; nothing is written.
    """
    with _whole(Path(path)) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for (n_way, k_shot), numbers in predictions.items():
            archive.writestr(f"pred-{n_way}-{k_shot}.json", _format_predictions(numbers, n_way))


class _Sentences:
    """Numbers a file's sentences, an equal one with the same number."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._index: dict[str, int] = {}
        self.records: list[Record] = []

    def index(self, number: int, field: str, sentence: Any) -> int:
        key = json.dumps(sentence)
        if key not in self._index:
            where = f"[{number}].{field}"
            if not isinstance(sentence, dict):
                raise InvalidRowError(self._path, where, "", f"expected an object, found {shorten(sentence)}")
            row = RowView(self._path, where, sentence)
            self._index[key] = len(self.records)
            self.records.append(parse_sentence(row, HIDDEN_RELATION, f"{HIDDEN_RELATION}-{len(self.records)}"))
        return self._index[key]


def _format_predictions(predictions: Sequence[int], n_way: int) -> str:
    numbers = [int(prediction) for prediction in predictions]
    for prediction, number in zip(predictions, numbers, strict=True):
        if number != prediction or not -1 <= number < n_way:
            raise TkreError(_out_of_range(prediction, n_way))
    return json.dumps(numbers)


def _out_of_range(prediction: Any, n_way: int) -> str:
    return f"expected a whole number from -1 (none of the above) to {n_way - 1}, found {prediction!r}"


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to; it takes the place of ``path`` once all is written, else it goes."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
