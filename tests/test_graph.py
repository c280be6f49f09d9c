"""From sentences to a graph, and on to similar nodes and predicted links: as the command line does it."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TokenClassificationPipeline

from tkre_hf import graph_extraction
from tkre_hf.cli import main as tkre
from tkre_hf.data.hin import read_hin
from tkre_hf.graph_extraction import sentence_rows
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.modeling_tkre import TKREForFewShotClassification
from tkre_hf.tkre.pipeline import RelationExtractionPipeline
from tkre_hf.tkre.processing_tkre import TKREProcessor

from .test_hin import TINY

FILES = ("nodes.csv", "edges.csv", "relations.csv", "triples.jsonl")

Graph = Callable[..., Path]


@pytest.fixture(scope="module")
def checkpoint(backbone: Path, corpus_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few-shot model that knows the corpus' relations."""
    folder = tmp_path_factory.mktemp("checkpoint")
    processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
    model = TKREForFewShotClassification.from_backbone(
        str(backbone), vocab_size=len(processor.tokenizer), new_tokens=processor.new_tokens
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    supports, info = map(str, corpus_files)
    argv = ["relations", "fit", "--model", str(folder), "--supports", supports, "--relation_info", info]
    assert tkre([*argv, "--na_threshold", "0.5"]) == 0
    return folder


@pytest.fixture
def graph(checkpoint: Path, tmp_path: Path) -> Graph:
    """Makes a graph: ``graph("sentences.jsonl", min_score=0.2)``; its folder is ``graph`` if none is named."""

    def make(*files: Path | str, output: str = "graph", code: int = 0, **settings: Any) -> Path:
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        model = [] if "model" in settings else ["--model", str(checkpoint)]
        assert tkre(["graph", *map(str, files), "-o", str(tmp_path / output), *model, *options]) == code
        return tmp_path / output

    return make


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def triples_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "triples.jsonl").read_text().splitlines()]


def test_from_sentences_to_similar_nodes_and_links(
    graph: Graph, corpus_files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = graph(corpus_files[0], min_score=0.1)
    assert "48 sentences, 48 pairs" in capsys.readouterr().out
    model = str(tmp_path / "model")
    pretrain = ["hin", "pretrain", "--network", str(folder), "--output_dir", model, "--max_steps", "4", *TINY]
    assert tkre([*pretrain, "--per_device_train_batch_size", "8"]) == 0
    assert tkre(["hin", "embed", "--model", model, "--num_walks", "1"]) == 0
    capsys.readouterr()
    tables = read_hin(folder)
    node = tables.node_ids[tables.src[0]]
    assert tkre(["hin", "similar", "--model", model, "--node", node, "--k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    links = ["hin", "links", "--model", model, "--node", node, "--k", "5", "--size", "4", "--epochs", "2"]
    assert tkre(links) == 0
    first = capsys.readouterr().out
    edges = {tuple(row) for row in (line.split(",")[:3] for line in (folder / "edges.csv").read_text().splitlines())}
    for line in first.splitlines():
        probability, head, kind, tail, _ = line.split("  ")
        assert 0 <= float(probability) <= 1 and node in (head, tail) and head != tail
        assert (head, tail, kind) not in edges and kind in tables.edge_types
    assert len(first.splitlines()) == 5
    # Not what the node has already is what the rest share in.
    assert float(first.split("  ")[0]) > 0.02
    # The second call takes the scorer that the first one left.
    written = (Path(model) / "links.safetensors").stat().st_mtime_ns
    assert tkre(links) == 0 and capsys.readouterr().out == first
    assert (Path(model) / "links.safetensors").stat().st_mtime_ns == written
    kind = tables.edge_types[0]
    assert tkre([*links, "--edge_type", kind]) == 0
    assert {line.split("  ")[2] for line in capsys.readouterr().out.splitlines()} <= {kind}
    assert tkre([*links, "--edge_type", "x"]) == 2 and "'x' is no edge type" in capsys.readouterr().err
    assert tkre(["hin", "links", "--model", model, "--node", "x"]) == 2 and "'x' is no node" in capsys.readouterr().err


def test_a_graph_is_what_the_pipeline_says(
    graph: Graph, checkpoint: Path, corpus_files: tuple[Path, Path], records: list[dict[str, Any]]
) -> None:
    folder = graph(corpus_files[0], min_score=0.2)
    triples = triples_of(folder)
    expected = []
    for record, (found,) in zip(records, load_pipeline(str(checkpoint))(records), strict=True):
        if found["relation"] is not None and found["score"] >= 0.2:
            expected.append((record["id"], found["relation"], record["head"]["name"], record["tail"]["name"]))
    assert 0 < len(triples) == len(expected)
    said = [(row["id"], row["relation"], row["head"]["text"], row["tail"]["text"]) for row in triples]
    assert said == expected
    by_id = {record["id"]: (line, record) for line, record in enumerate(records, 1)}
    edges = defaultdict(list)
    for row in triples:
        line, record = by_id[row["id"]]
        assert row["line"] == line and row["file"] == str(corpus_files[0]) and row["unit"] == "words"
        for role in ("head", "tail"):
            assert " ".join(record["tokens"][row[role]["start"] : row[role]["end"]]) == row[role]["text"]
        edges[row["head"]["node"], row["tail"]["node"], row["relation"]].append(row["score"])
    with (folder / "edges.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["src"], row["dst"], row["edge_type"]): (int(row["count"]), float(row["score"])) for row in rows} == {
        edge: (len(scores), max(scores)) for edge, scores in edges.items()
    }
    tables = read_hin(folder)
    assert {tables.node_types[i] for i in tables.node_type} == {"THING", "PERSON"}
    assert tables.relations["capital"].label == "capital of"


def test_an_interrupted_run_ends_as_one_that_was_not(
    graph: Graph, corpus_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_extraction, "_CHUNK", 10)
    whole = contents(graph(corpus_files[0], output="whole", min_score=0))
    asked: list[int] = []
    call = RelationExtractionPipeline.__call__

    def counted(pipe: RelationExtractionPipeline, inputs: Any, **kwargs: Any) -> Any:
        asked.append(len(inputs))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return call(pipe, inputs, **kwargs)

    monkeypatch.setattr(RelationExtractionPipeline, "__call__", counted)
    folder = graph(corpus_files[0], min_score=0, code=130)
    assert asked == [10, 10, 10] and not any((folder / name).exists() for name in FILES)
    # As the process may leave it that was killed in the middle of a line.
    journal = folder / "extracted.jsonl"
    journal.write_text(journal.read_text() + '{"torn')
    graph(corpus_files[0], min_score=0)
    assert asked == [10] * 5 + [8] and contents(folder) == whole
    # Nothing is left to ask, and what stands there is written again as it is; so it is with another score.
    graph(corpus_files[0], min_score=0)
    assert len(asked) == 6 and contents(folder) == whole
    graph(corpus_files[0], min_score=1)
    assert len(asked) == 6 and triples_of(folder) == [] and read_hin(folder).num_nodes == 0
    assert not list(folder.glob(".*part*"))


def test_more_files_are_read_and_the_known_ones_are_not(
    graph: Graph, corpus_files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("[E1]Kiel[/E1] is the capital of [E2]Elba[/E2] .\n\n<e1>Ada</e1> spans the wide <e2>Elba</e2> .\n")
    folder = graph(corpus_files[0], min_score=0)
    asked: list[Any] = []
    call = RelationExtractionPipeline.__call__
    monkeypatch.setattr(
        RelationExtractionPipeline, "__call__", lambda pipe, rows, **kw: asked.extend(rows) or call(pipe, rows, **kw)
    )
    graph(corpus_files[0], more, min_score=0)
    assert [sentence.row.row for sentence in asked] == [1, 3]
    last = triples_of(folder)[-1]
    assert (last["id"], last["line"], last["unit"]) == ("more-3", 3, "characters")
    assert last["head"] == {"start": 0, "end": 3, "text": "Ada", "node": "Ada"}


def test_none_of_the_above_is_never_an_edge(
    graph: Graph, corpus_files: tuple[Path, Path], make_classifier: Callable[[str], Path]
) -> None:
    assert triples_of(graph(corpus_files[0], min_score=0, na_threshold=1.0)) == []
    for answer in ("none", "capital"):
        model = make_classifier(answer)
        found = triples_of(graph(corpus_files[0], min_score=0, output=f"by {answer}", model=model))
        assert {row["relation"] for row in found} == {answer} - {"none"}


def test_entities_are_found_in_lines_of_text(graph: Graph, ner: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("  Kiel is the capital of Elba , and Kiel works .\nThe bridge .\n")
    found = triples_of(graph(lines, ner=ner, min_score=0, na_threshold=-1))
    # Of three mentions two are one node, between which there is no edge.
    assert {(row["head"]["node"], row["tail"]["node"]) for row in found} == {
        ("Kiel (THING)", "Elba (THING)"),
        ("Elba (THING)", "Kiel (THING)"),
    }
    assert len(found) == 4 and found[0]["head"] == {
        "start": 0, "end": 4, "text": "Kiel", "type": "THING", "node": "Kiel (THING)"
    }  # fmt: skip


def test_a_line_whose_found_entities_are_nowhere_is_left_out(
    graph: Graph, ner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.txt"
    wrong = "Kiel rules Elba ."
    lines.write_text(f"Kiel is the capital of Elba .\n{wrong}\nLima is the capital of Jena .\n")
    tagged: list[str] = []
    tag = TokenClassificationPipeline.__call__

    def counting(self: Any, texts: list[str], **kwargs: Any) -> Any:
        tagged.extend(texts)
        found = dict(zip(texts, tag(self, texts, **kwargs), strict=True))
        return [[{"start": 4, "end": 5}] if text == wrong else found[text] for text in texts]

    monkeypatch.setattr(TokenClassificationPipeline, "__call__", counting)
    settings = {"ner": ner, "min_score": 0, "na_threshold": -1, "skip_invalid": True}
    found = triples_of(graph(lines, **settings))
    assert {row["head"]["text"] for row in found} == {"Kiel", "Elba", "Lima", "Jena"} and len(tagged) == 3
    assert "skipped 1 wrong row" in capsys.readouterr().err
    # Another time only what couldn't be read is tried again.
    assert triples_of(graph(lines, **settings)) == found and tagged[3:] == [wrong]


def test_a_row_may_name_a_node_of_a_knowledge_base(graph: Graph, tmp_path: Path) -> None:
    rows = [
        {"token": ["Kiel", "rules", "Elba"], "h": {"pos": [0, 1], "id": "Q1"}, "t": {"pos": [2, 3]}},
        {"text": "Lima rules Elba", "entities": [{"start": 0, "end": 4, "kb_id": "Q1"}, {"start": 11, "end": 15}]},
        {"context": "Kiel rules Elba", "head_entity": "Kiel", "tail_entity": "Elba", "relation": "unknown"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = graph(file, min_score=0, na_threshold=-1)
    ends = [(row["head"]["node"], row["tail"]["node"]) for row in triples_of(folder)]
    assert ends == [("Q1", "Elba"), ("Q1", "Elba"), ("Elba", "Q1"), ("Kiel", "Elba")]
    assert read_hin(folder).names == ["Lima", "Elba", "Kiel"]


def test_published_data_are_a_source() -> None:
    rows = list(sentence_rows("sample:validation"))
    assert len(rows) == 256 and {"tokens", "head", "tail"} <= set(rows[0].data)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("line", "settings", "message"),
    [
        ('{"text": "Kiel rules Elba", "head": [0, 4], "tail": [11, 99]}', {}, "rows.jsonl, line 2, field 'tail'"),
        ('{"text": "Kiel rules Elba"}', {}, "rows.jsonl, line 2: no entities are given: give them, or --ner"),
        ('{"text": ', {}, "rows.jsonl, line 2: broken JSON"),
        (None, {"min_score": 50}, "min_score is 50.0: expected a number from 0 to 1"),
        (None, {"batch_size": 0}, "batch_size is 0"),
        (None, {"model": "nowhere"}, "the checkpoint nowhere can't be loaded"),
        (None, {"relations": "x", "supports": "{rows}"}, "rows.jsonl, line 1"),
        (None, {"split": "train"}, "takes neither split nor data_dir"),
        (None, {"ner": "nowhere"}, "the checkpoint nowhere can't be loaded"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    line: str | None,
    settings: dict[str, Any],
    message: str,
    graph: Graph,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "Kiel rules Elba", "head": [0, 4], "tail": [11, 15]}\n' + (line or ""))
    settings = {name: str(value).format(rows=rows) for name, value in settings.items()}
    capsys.readouterr()
    graph(rows, code=2, **settings)
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("tkre graph: ") and message in error
    if line is not None:
        folder = graph(rows, output="rest", skip_invalid=True, min_score=0, na_threshold=-1)
        assert "skipped 1 wrong row" in capsys.readouterr().err and len(triples_of(folder)) == 1


def test_a_folder_is_of_one_model_and_its_relations(
    graph: Graph, corpus_files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = graph(corpus_files[0], min_score=0)
    before = contents(folder)
    graph(corpus_files[0], relation_info=corpus_files[1], code=2)
    assert "holds a run with another relations: choose another folder" in capsys.readouterr().err
    assert contents(folder) == before
    assert tkre(["graph", "-o", str(folder)]) == 2
    assert "give one file of sentences at least" in capsys.readouterr().err
