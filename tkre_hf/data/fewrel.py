"""FewRel 1.0 and 2.0 in their publisher's own format, and episodes of any such file as a data set.

Sources: Han et al., "FewRel: A Large-Scale Supervised Few-Shot Relation Classification Dataset", EMNLP 2018; Gao et
al., "FewRel 2.0: Towards More Challenging Few-Shot Relation Classification", EMNLP-IJCNLP 2019.

A file is one JSON object of relation label to sentences, a sentence being ``{"tokens": [words], "h": [name, id,
[[positions of a mention], ...]], "t": [...]}``. A record takes the first mention, as the FewRel toolkit does. Some
sentences, about one in eighty, have words that are only white space; they stay, so that every position means what it
means to the publisher. BERT's tokenizer, for one, drops them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, List, Value

from tkre_hf.data.builder import PublishedConfig, RecordsBuilder
from tkre_hf.data.episodes import EpisodeDataset
from tkre_hf.data.reading import RowView, UniqueIds, file_sha256, read_json, record_or_error, shorten
from tkre_hf.data.relations import RelationInfo, read_relation_info
from tkre_hf.data.schema import RECORD_FEATURES, CharSpan, Record
from tkre_hf.errors import InvalidRowError, TkreError

# A commit, so that the files can't change under the checksums.
URL = "https://raw.githubusercontent.com/thunlp/FewRel/278a2315d2138810a379cd8d5718914dc56e2582/data/{name}"
RELATION_NAMES = "pid2name.json"
SHA256 = {
    "train_wiki.json": "8e9e58a05d559be773cbe18a8d4a16ba17e6d397663f9f05a056f894a94b92c1",
    "val_wiki.json": "76bb44c2485b6faed358a3ce040eadafcc8a8835245cd7e6afc1bef672d4a0bf",
    "val_pubmed.json": "fc0f13b534f6664fe0d8aec231d7590313bc6510d00dbc1b6746147f6a2b46e6",
    RELATION_NAMES: "eeedd25512a8e4c2bc06b78009836d27de81807bcba6ed929debd5cd713c07ea",
}


@dataclass
class FewRelConfig(PublishedConfig):
    """Which files of FewRel to read; without a ``data_dir`` they are downloaded from the publisher's repository and
    their checksums compared."""


class FewRel(RecordsBuilder):
    """FewRel as records: ``relation`` is the publisher's label, ``kb_id`` the entity's id, ``id`` e.g. ``P177-12``.

    Configurations: ``wiki`` (FewRel 1.0: 64 relations to train on, 16 others to validate), ``pubmed`` (FewRel 2.0's
    domain adaptation: 10 biomedical relations to validate), and ``file`` for any other file of that format.

    Example::

        builder = FewRel(config_name="wiki", data_dir="fewrel")  # or without data_dir, to download it
        builder.download_and_prepare()
        validation = builder.as_dataset("validation")
    """

    VERSION = "1.0.0"
    BUILDER_CONFIG_CLASS = FewRelConfig
    BUILDER_CONFIGS = [
        FewRelConfig(name="wiki", split_files={"train": "train_wiki.json", "validation": "val_wiki.json"}),
        FewRelConfig(name="pubmed", split_files={"validation": "val_pubmed.json"}),
        FewRelConfig(name="file"),
    ]
    config: FewRelConfig

    def read(self, path: Path, ids: UniqueIds) -> Iterator[Record | InvalidRowError]:
        for row, relation, number in _sentences(path):
            yield record_or_error(row, partial(parse_sentence, relation=relation, id=f"{relation}-{number}"), ids)

    def source_files(self, dl_manager: Any) -> Mapping[str, Sequence[Path]]:
        local = self.config.source_files()
        if local or not self.config.split_files:
            return super().source_files(dl_manager)
        return {split: [self._download(name, dl_manager)] for split, name in self.config.split_files.items()}

    @cached_property
    def relation_info(self) -> dict[str, RelationInfo]:
        """Names and descriptions from ``pid2name.json``, in ``data_dir`` or downloaded; the biomedical relations have
        no entry there, see :func:`~tkre_hf.data.relations.complete_relation_info`."""
        local = self.config.data_dir is not None
        return read_relation_info(
            Path(self.config.data_dir or "", RELATION_NAMES) if local else self._download(RELATION_NAMES)
        )

    def _download(self, name: str, dl_manager: Any = None) -> Path:
        # A file is one JSON value, so it is fetched as a whole for streaming too.
        if not isinstance(dl_manager, datasets.DownloadManager):
            config = datasets.DownloadConfig(cache_dir=self._cache_downloaded_dir, use_etag=False)
            dl_manager = datasets.DownloadManager(download_config=config)
        url = URL.format(name=name)
        try:
            path = Path(dl_manager.download(url))
        except OSError as error:
            raise TkreError(f"{url} could not be downloaded ({error}); fetch it and give its data_dir") from error
        found = file_sha256(path)
        if found != SHA256[name]:
            # Not kept: otherwise the next run would find the broken file in the cache, and so would all later ones.
            path.unlink()
            raise TkreError(f"{url} has the SHA-256 {found}, not {SHA256[name]}: run again, or give a data_dir")
        return path


@dataclass
class FewRelEpisodesConfig(FewRelConfig):
    """FewRel's files and the episodes to draw from each split; see :class:`~tkre_hf.data.episodes.EpisodeDataset`."""

    n_way: int = 5
    k_shot: int = 1
    n_query: int = 1
    na_rate: float = 0.0
    num_episodes: int = 1000
    seed: int = 0


class FewRelEpisodes(FewRel):
    """Episodes written out: each example is one, with its sentences. The same episodes as ``EpisodeDataset`` draws.

    Features: ``relations`` (n_way labels), ``support`` (n_way lists of k_shot records), ``query`` (records) and
    ``query_label`` (for each query its place in ``relations``, -1 for none of the above).
    """

    BUILDER_CONFIG_CLASS = FewRelEpisodesConfig
    BUILDER_CONFIGS = [
        FewRelEpisodesConfig(name=config.name, split_files=config.split_files) for config in FewRel.BUILDER_CONFIGS
    ]
    config: FewRelEpisodesConfig

    def _info(self) -> datasets.DatasetInfo:
        record = dict(RECORD_FEATURES)
        return datasets.DatasetInfo(
            features=Features(
                {
                    "relations": List(Value("string")),
                    "support": List(List(record)),
                    "query": List(record),
                    "query_label": List(Value("int32")),
                }
            )
        )

    def _generate_examples(self, files: Sequence[Path], split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        records = list(self._records(files, split))
        config = self.config
        episodes = EpisodeDataset(
            [record["relation"] for record in records],
            n_way=config.n_way,
            k_shot=config.k_shot,
            n_query=config.n_query,
            na_rate=config.na_rate,
            num_episodes=config.num_episodes,
            seed=config.seed,
        )
        for i in range(len(episodes)):
            episode = episodes[i]
            yield (
                i,
                {
                    "relations": [episodes.relation_names[relation] for relation in episode.relations],
                    "support": [[records[row] for row in rows] for rows in episode.support],
                    "query": [records[row] for row in episode.query],
                    "query_label": episode.query_label.tolist(),
                },
            )


def parse_sentence(row: RowView, relation: str, id: str) -> Record:
    """Turns a sentence of FewRel's format into a record.

    Raises:
        InvalidRowError: A field is missing or wrong, or a mention is not one run of words.
    """
    entities: dict[str, Any] = {}
    for side, key in (("head", "h"), ("tail", "t")):
        entity = row.get(key, list)
        if len(entity) != 3 or not all(isinstance(part, str) for part in entity[:2]):
            raise row.error(key, f"expected [name, id, [[position, ...], ...]], found {shorten(entity)}")
        entities |= {f"{side}_name": entity[0], f"{side}_kb_id": entity[1], side: _first_mention(row, key, entity[2])}
    return row.record({"head": "h", "tail": "t"}, id=id, tokens=row.get("tokens", list), relation=relation, **entities)


def format_sentence(record: Record) -> dict[str, Any]:
    """A record as FewRel writes a sentence; what that format has no place for (types, cues) is left out."""

    def entity(side: str) -> list[Any]:
        fields = record[side]
        return [fields["name"], fields["kb_id"], [list(range(fields["start"], fields["end"]))]]

    return {"tokens": record["tokens"], "h": entity("head"), "t": entity("tail")}


def _sentences(path: Path) -> Iterator[tuple[RowView | InvalidRowError, str, int]]:
    relations = read_json(path)
    if not isinstance(relations, dict) or not all(isinstance(rows, list) for rows in relations.values()):
        raise InvalidRowError(path, 1, "", "expected an object of relation: [sentences]; JSON lines end in .jsonl")
    for relation, rows in relations.items():
        for number, data in enumerate(rows):
            key = f"{relation}[{number}]"
            if isinstance(data, dict):
                yield RowView(path, key, data), relation, number
            else:
                yield InvalidRowError(path, key, "", f"expected an object, found {shorten(data)}"), relation, number


def _first_mention(row: RowView, key: str, mentions: Any) -> CharSpan:
    positions = mentions[0] if isinstance(mentions, list) and mentions else None
    if not isinstance(positions, list) or not positions or not all(type(position) is int for position in positions):
        raise row.error(key, f"expected a list of mentions, each a list of positions, found {shorten(mentions)}")
    start, end = positions[0], positions[-1] + 1
    if positions != list(range(start, start + len(positions))):
        raise row.error(key, f"the mention's positions {shorten(positions)} are not one run of words")
    return start, end
