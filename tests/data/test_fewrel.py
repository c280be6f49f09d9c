from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import pytest

from tkre_hf.data import (
    EpisodeDataset,
    FewRel,
    FewRelEpisodes,
    SkippedRows,
    fewrel,
    load_records,
    load_relation_info,
    records_builder,
)
from tkre_hf.data.fewrel import format_sentence, parse_sentence
from tkre_hf.data.reading import RowView
from tkre_hf.errors import InvalidRowError, TkreError

WriteFewRel = Callable[..., Path]
Sentence = Callable[[str, int], dict[str, Any]]


def test_a_record_is_the_first_mention_with_positions_as_published(write_fewrel: WriteFewRel) -> None:
    records = load_records(write_fewrel({"P177": 2, "P1": 1}, name="own.json"))
    assert records["id"][:] == ["P177-0", "P177-1", "P1-0"]
    record = records[1]
    assert record["tokens"][3] == " ", "words of white space stay"
    assert record["head"] == {"start": 1, "end": 3, "type": "", "name": "old bridge", "kb_id": "Q1"}
    assert record["tail"] == {"start": 7, "end": 9, "type": "", "name": "river 1", "kb_id": "Q1"}
    assert (record["relation"], record["cues"], record["source"]) == ("P177", [], "gold")


def test_a_folder_s_files_are_its_splits(write_fewrel: WriteFewRel, tmp_path: Path) -> None:
    write_fewrel({"P1": 2}, name="val_wiki.json")
    assert len(load_records("fewrel:wiki", data_dir=tmp_path)) == 2, "the only split there is"
    write_fewrel({"P2": 3}, name="train_wiki.json")
    with pytest.raises(TkreError, match="fewrel:wiki has the splits train, validation"):
        load_records("fewrel:wiki", data_dir=tmp_path)
    assert len(load_records("fewrel:wiki", data_dir=tmp_path, split="train")) == 3
    with pytest.raises(TkreError, match="holds none of val_pubmed.json"):
        load_records("fewrel:pubmed", data_dir=tmp_path)


def test_streamed_rows_are_the_loaded_ones(write_fewrel: WriteFewRel) -> None:
    path = write_fewrel({"P177": 3, "P1": 2})
    streamed = list(records_builder(path).as_streaming_dataset("train"))
    assert streamed == load_records(path).to_list()


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"tokens": None}, "tokens", "missing"),
        ({"h": None}, "h", "missing"),
        ({"h": ["x", "Q1"]}, "h", r"expected \[name, id"),
        ({"h": ["x", 1, [[0]]]}, "h", r"expected \[name, id"),
        ({"h": ["x", "Q1", []]}, "h", "list of mentions"),
        ({"h": ["x", "Q1", [[]]]}, "h", "list of mentions"),
        ({"h": ["x", "Q1", [["1"]]]}, "h", "list of mentions"),
        ({"h": ["x", "Q1", [[1, 3]]]}, "h", "not one run of words"),
        ({"h": ["x", "Q1", [[2, 1]]]}, "h", "not one run of words"),
        ({"t": ["x", "Q1", [[12, 13]]]}, "t", "outside the sentence's 13 tokens"),
        ({"t": ["x", "Q1", [[-1]]]}, "t", "outside"),
        ({"t": ["x", "Q1", [[3]]]}, "t", "white space"),
        ({"t": ["x", "Q1", [[1, 2]]]}, "t", "same span"),
    ],
)
def test_a_wrong_sentence_names_file_row_and_field(
    tmp_path: Path, fewrel_sentence: Sentence, change: dict[str, Any], field: str, reason: str
) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"P1": [fewrel_sentence("P1", 0)], "P2": [fewrel_sentence("P2", 0) | change]}))
    with pytest.raises(InvalidRowError, match=rf"own\.json, row P2\[0\], field '{field}': .*{reason}"):
        load_records(path)
    skipped = SkippedRows()
    assert load_records(path, skip_invalid=True, skipped=skipped)["id"][:] == ["P1-0"]
    assert [(error.row, error.field) for error in skipped] == [("P2[0]", field)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"P1":\n [}', "line 2: broken JSON"),
        (b'{"P1":\n\n "\xff"}', "line 3: not UTF-8"),
        (b'{"P1": [], "P1": []}', "'P1' stands twice"),
        (b"[]", "expected an object of relation"),
        (b'{"P1": [3]}', r"row P1\[0\]: expected an object, found 3"),
        (b'{"P1": 3}', "expected an object of relation"),
        (b"", "broken JSON"),
    ],
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "own.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRowError, match=reason):
        load_records(path)


def test_a_sentence_comes_back_as_it_was_but_for_later_mentions(fewrel_sentence: Sentence) -> None:
    sentence = fewrel_sentence("P1", 4)
    record = parse_sentence(RowView("f", "P1[4]", sentence), "P1", "P1-4")
    first = {side: [*sentence[side][:2], sentence[side][2][:1]] for side in ("h", "t")}
    assert format_sentence(record) == sentence | first


@pytest.fixture
def publisher(tmp_path: Path, write_fewrel: WriteFewRel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A publisher on this machine, whose files' checksums are the expected ones."""
    for name in ("train_wiki.json", "val_wiki.json"):
        write_fewrel({"P1": 2}, name=name)
    (tmp_path / "pid2name.json").write_text('{"P1": ["crosses", "a river, say"]}')

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(fewrel, "URL", f"http://127.0.0.1:{server.server_port}/{{name}}")
    for path in tmp_path.iterdir():
        monkeypatch.setitem(fewrel.SHA256, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
    # Offline mode forbids this machine's own addresses too.
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_files_are_downloaded_and_compared_with_their_checksums(publisher: Path) -> None:
    assert len(load_records("fewrel:wiki", split="validation")) == 2
    assert load_relation_info("fewrel:wiki")["P1"].name == "crosses"
    assert len(list(FewRel(config_name="wiki").as_streaming_dataset("train"))) == 2


def test_a_download_with_another_checksum_is_refused_and_not_kept(publisher: Path) -> None:
    whole = (publisher / "val_wiki.json").read_bytes()
    (publisher / "val_wiki.json").write_bytes(whole[:-5])
    with pytest.raises(TkreError, match="val_wiki.json has the SHA-256 .*, not "):
        load_records("fewrel:wiki", split="validation")
    (publisher / "val_wiki.json").write_bytes(whole)
    assert len(load_records("fewrel:wiki", split="validation")) == 2


@pytest.mark.parametrize("failure", ["missing", "unreachable", "offline"])
def test_a_download_that_fails_says_what_to_do(publisher: Path, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    if failure == "missing":
        (publisher / "train_wiki.json").unlink()
    elif failure == "unreachable":
        monkeypatch.setattr(fewrel, "URL", "http://127.0.0.1:1/{name}")
    else:
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(TkreError, match="could not be downloaded .* data_dir"):
        load_records("fewrel:wiki", split="validation")


def test_episodes_written_out_are_those_of_the_dataset(write_fewrel: WriteFewRel) -> None:
    path = write_fewrel({f"P{i}": 9 for i in range(5)})
    settings: dict[str, Any] = {"n_way": 3, "k_shot": 2, "n_query": 2, "na_rate": 0.25, "num_episodes": 7, "seed": 3}
    builder = FewRelEpisodes(config_name="file", data_files=str(path), **settings)
    builder.download_and_prepare()
    written = builder.as_dataset("train")
    assert list(builder.as_streaming_dataset("train")) == written.to_list()

    records = load_records(path)
    episodes = EpisodeDataset(records["relation"][:], **settings)
    assert len(written) == 7
    for example, episode in zip(written, episodes, strict=True):
        assert example["relations"] == [episodes.relation_names[i] for i in episode.relations]
        assert example["support"] == [[records[row] for row in group] for group in episode.support.tolist()]
        assert example["query"] == [records[row] for row in episode.query.tolist()]
        assert example["query_label"] == episode.query_label.tolist()
        for query, label in zip(example["query"], example["query_label"], strict=True):
            relation = query["relation"]
            assert relation not in example["relations"] if label == -1 else relation == example["relations"][label]
    other = FewRelEpisodes(config_name="file", data_files=str(path), **settings | {"seed": 4})
    other.download_and_prepare()
    assert other.as_dataset("train").to_list() != written.to_list()


def test_too_few_rows_for_episodes_name_the_relation(write_fewrel: WriteFewRel) -> None:
    builder = FewRelEpisodes(config_name="file", data_files=str(write_fewrel({"P1": 9, "P2": 1})), n_way=2)
    with pytest.raises(TkreError, match=r"each relation needs 2 rows \(1 support \+ 1 query\), but 'P2' has 1"):
        builder.download_and_prepare()


def test_the_published_files_are_those_of_the_checksums(data_dir: Path) -> None:
    for name in ("val_wiki.json", "val_pubmed.json", "pid2name.json"):
        assert hashlib.sha256((data_dir / "fewrel" / name).read_bytes()).hexdigest() == fewrel.SHA256[name]


@pytest.mark.parametrize(
    ("source", "split", "relations", "rows"),
    [("fewrel:wiki", "validation", 16, 700), ("fewrel:pubmed", "validation", 10, 100)],
)
def test_real_validation_files(data_dir: Path, source: str, split: str, relations: int, rows: int) -> None:
    records = load_records(source, split=split, data_dir=data_dir / "fewrel")
    counts = Counter(records["relation"][:])
    assert len(counts) == relations and set(counts.values()) == {rows}
    assert len(set(records["id"][:])) == len(records)
    raw = json.loads((data_dir / "fewrel" / ("val_wiki.json" if "wiki" in source else "val_pubmed.json")).read_text())
    sentences = [row for group in raw.values() for row in group]
    for record, row in zip(records, sentences, strict=True):
        assert record["tokens"] == row["tokens"]
        assert list(range(record["head"]["start"], record["head"]["end"])) == row["h"][2][0]
        assert record["tail"]["kb_id"] == row["t"][1]
    names = load_relation_info(source, counts, data_dir=data_dir / "fewrel")
    assert list(names) == list(counts)
    assert all(info.description for info in names.values()) == (source == "fewrel:wiki")


def test_real_training_file(data_dir: Path) -> None:
    # The whole file has 64 x 700 sentences; a part of it may do for tests.
    counts = Counter(load_records("fewrel:wiki", split="train", data_dir=data_dir / "fewrel")["relation"][:])
    assert len(counts) == 64 and max(counts.values()) == 700
