"""From sentences to a network: entities, the relations between them, and the tables that ``tkre hin`` reads.

What a model says of a sentence is kept in ``extracted.jsonl``, by what the sentence says. So an interrupted run goes
on where it was, one with more files reads only what is new, and another ``min_score`` costs no time. The files that a
run is for are written anew each time, and take their places when they are whole:

===================  =================================================================================================
``nodes.csv``        node_id, node_type, name (``tkre_hf/data/triples.py`` says which mentions are one node)
``edges.csv``        src, dst, edge_type, count (triples that say so), score (the best of theirs)
``relations.csv``    edge_type, label: the relations' names
``triples.jsonl``    each triple that an edge was made of: sentence, spans, nodes, relation, score
===================  =================================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records
from tkre_hf.data.hin import EdgeTypeInfo, HINTables, write_hin
from tkre_hf.data.jsonl import parse_row
from tkre_hf.data.reading import RowView, SkippedRows, decode, parse_json_lines, read_bytes
from tkre_hf.data.triples import NetworkBuilder, node_key
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.knowledge.journal import JsonLines, keep_settings, lock_folder
from tkre_hf.prediction_cli import identified_sentences
from tkre_hf.relations_cli import RelationSource
from tkre_hf.tkre.inputs import Sentence
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

TRIPLES, EXTRACTED = "triples.jsonl", "extracted.jsonl"

# Sentences that are extracted at once, and then kept at once: of a chunk either all is kept or nothing, so that every
# sentence is always beside the same others, and a run that was interrupted ends with the same digits.
_CHUNK = 256
_DIGITS = 4


@dataclass
class GraphArguments(RelationSource):
    """Which sentences become a graph, and how."""

    input: list[str] = field(
        default_factory=list,
        metadata={"help": "Files: records, JSON lines, or lines of text.", "metavar": "FILE"},
    )
    output: str = field(default="graph", metadata={"help": "Folder for the graph.", "aliases": ["-o"]})
    model: str = field(default="tkre-bert", metadata={"help": "Checkpoint: a folder or Hub id."})
    split: str | None = field(default=None, metadata={"help": "Split of a published data set, as of fewrel:wiki."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with a published data set's files."})
    ner: str | None = field(
        default=None, metadata={"help": "Token classification model that finds the entities where none are given."}
    )
    min_score: float = field(default=0.5, metadata={"help": "Score below which a triple is no edge, from 0 to 1."})
    batch_size: int = field(default=32, metadata={"help": "Pairs encoded at once."})
    device: str | None = field(
        default=None, metadata={"help": "Such as cpu or cuda:1; the accelerator by default, if there is one."}
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Leave wrong rows out, and list them at the end."})


@dataclass(frozen=True)
class ExtractedGraph:
    """What a run made.

    Args:
        tables: The network.
        sentences: That were read.
        pairs: Of entities, in one direction each.
        triples: That edges were made of.
        skipped: Rows left out because they were wrong.
    """

    tables: HINTables
    sentences: int
    pairs: int
    triples: int
    skipped: SkippedRows

    def summary(self) -> str:
        """The counts in one line."""
        counts = {
            "sentences": self.sentences,
            "pairs": self.pairs,
            "triples": self.triples,
            "nodes": self.tables.num_nodes,
            "edges": len(self.tables.src),
        }
        return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def extract_graph(args: GraphArguments) -> ExtractedGraph:
    """Reads sentences and writes their graph.

    Raises:
        TkreError: A setting, the checkpoint or a row is wrong, or the folder holds another model's or other relations'
            work.
    """
    if not args.input:
        raise TkreError("give one file of sentences at least")
    if not 0 <= args.min_score <= 1:
        raise TkreError(f"min_score is {args.min_score}: expected a number from 0 to 1")
    if args.batch_size < 1:
        raise TkreError(f"batch_size is {args.batch_size}: encode one pair at least")
    with quiet_libraries():
        learned = args.read() if args.supports is not None or args.relation_info is not None else None
        pipe: RelationExtractionPipeline = load_pipeline(args.model, args.ner, args.device)
        if learned is not None:
            pipe.fit(*learned)
        if args.na_threshold is not None:
            pipe.na_threshold = args.na_threshold
        if not pipe.relations:
            raise TkreError(
                f"{args.model} knows no relations yet: give --supports or --relation_info, or teach it some with "
                "'tkre relations fit'"
            )
        folder = Path(args.output)
        with ExitStack() as stack:
            stack.callback(lock_folder(folder).release)
            keep_settings(folder, _identity(pipe))
            journal = JsonLines(folder / EXTRACTED)
            stack.callback(journal.close)
            try:
                return _Extraction(args, pipe, folder, journal).run()
            except OSError as error:
                raise TkreError(f"cannot write to {folder}: {error.strerror or error}") from error


def sentence_rows(
    source: str, split: str | None = None, data_dir: str | None = None, skipped: SkippedRows | None = None
) -> Iterator[RowView | InvalidRowError]:
    """The rows of a source of sentences, labelled or not.

    Args:
        source: JSON lines, ``.jsonl``, as ``tkre predict`` reads them; lines of text, ``.txt`` (JSON lines if the
            first begins with a brace); or anything else that ``load_records`` loads.
        split: Of a published data set. ``data_dir`` likewise.
        skipped: Takes the wrong rows of what ``load_records`` loads; without it the first one is raised.

    Yields:
        For each row its fields, or the error that stands in its place.
    """
    path = Path(source)
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix
    if kind not in (".jsonl", ".txt"):
        errors = SkippedRows()
        records = load_records(
            source, split=split, data_dir=data_dir, skip_invalid=skipped is not None, skipped=errors
        )
        yield from errors
        for record in records:
            yield RowView(source, record["id"], record)
        return
    if split is not None or data_dir is not None:
        raise TkreError(f"{source} is a file, which takes neither split nor data_dir")
    lines = read_bytes(source).split(b"\n")
    first = next((line for line in lines if line.strip()), b"")
    if kind == ".jsonl" or first.lstrip().startswith(b"{"):
        yield from map(_as_record, parse_json_lines(lines, source))
        return
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield RowView(source, number, {"text": decode(source, number, line).strip()})
            except InvalidRowError as error:
                yield error


class _Extraction:
    """One run, its folder locked.

    Args:
        args: The settings.
        pipe: Knows the relations.
        folder: For the graph.
        journal: What is known already.
    """

    def __init__(
        self, args: GraphArguments, pipe: RelationExtractionPipeline, folder: Path, journal: JsonLines
    ) -> None:
        self.args, self.pipe, self.folder, self.journal = args, pipe, folder, journal
        # Where each known sentence's relations stand: the offset of its chunk, and its key there.
        self.known = {key: offset for offset, row in self.journal.read() for key in row}
        self.chunk: tuple[int, dict[str, Any]] = (-1, {})
        # Sentences of which the tagger finds what can't be encoded, where such are skipped.
        self.unread: set[str] = set()
        self.skipped = SkippedRows()

    def run(self) -> ExtractedGraph:
        """Extracts what isn't known yet, and writes the graph."""
        # All are read before the first is encoded, so that a wrong one costs no time.
        total = sum(1 for _ in self._sentences(self.skipped))
        sentences = pairs = triples = 0
        network = NetworkBuilder()
        part = self.folder / f".{TRIPLES}.part"
        with part.open("w", encoding="utf-8") as file, tqdm(total=total, unit=" sentences", disable=None) as bar:
            read = self._sentences(SkippedRows())
            while chunk := list(islice(read, _CHUNK)):
                self._extract([sentence for _, sentence in chunk])
                for id, sentence in chunk:
                    found = self._relations(sentence)
                    sentences, pairs = sentences + 1, pairs + len(found)
                    for triple in self._triples(id, sentence, found, network):
                        file.write(json.dumps(triple, ensure_ascii=False) + "\n")
                        triples += 1
                bar.update(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        tables = network.tables()
        tables.relations = self._names(tables.edge_types)
        part.replace(self.folder / TRIPLES)
        _write_tables(tables, self.folder)
        return ExtractedGraph(tables, sentences, pairs, triples, self.skipped)

    def _sentences(self, skipped: SkippedRows) -> Iterator[tuple[str, Sentence]]:
        taken = skipped if self.args.skip_invalid else None
        for source in self.args.input:
            rows = sentence_rows(source, self.args.split, self.args.data_dir, taken)
            for id, sentence in identified_sentences(self.pipe, rows, taken):
                if sentence.pairs is None and self.pipe.ner is None:
                    error = sentence.row.error("", "no entities are given: give them, or --ner, which finds them")
                    if taken is None:
                        raise error
                    taken.errors.append(error)
                    continue
                yield id, sentence

    def _extract(self, sentences: Sequence[Sentence]) -> None:
        """Asks the model about those sentences of a chunk that aren't known, and keeps what it says."""
        new = {key: x for x in sentences if (key := _key(x)) not in self.known and key not in self.unread}
        if self.args.skip_invalid and self.pipe.ner is not None:
            read = self.pipe.readable(list(new.values()), self.args.batch_size)
            errors = {key: entry for key, entry in zip(new, read, strict=True) if isinstance(entry, InvalidRowError)}
            self.skipped.errors += errors.values()
            self.unread |= errors.keys()
            new = {key: entry for key, entry in zip(new, read, strict=True) if isinstance(entry, Sentence)}
        if not new:
            return
        found = self.pipe(list(new.values()), batch_size=self.args.batch_size, top_k=1)
        row = {key: list(map(_kept, relations)) for key, relations in zip(new, found, strict=True)}
        offset = self.journal.append(row)
        self.journal.sync()
        self.known |= dict.fromkeys(row, offset)

    def _relations(self, sentence: Sentence) -> list[dict[str, Any]]:
        """The best relation of each pair, or none of the above."""
        key = _key(sentence)
        if key in self.unread:
            return []
        offset = self.known[key]
        if self.chunk[0] != offset:
            self.chunk = offset, self.journal.read_at(offset)
        return self.chunk[1][key]

    def _triples(
        self, id: str, sentence: Sentence, found: Iterable[dict[str, Any]], network: NetworkBuilder
    ) -> Iterator[dict[str, Any]]:
        """Adds a sentence's triples to the network, and gives each one's line for the file of triples."""
        row, kb_ids = sentence.row, _kb_ids(sentence.row)
        for entry in found:
            if entry["relation"] is None or entry["score"] < self.args.min_score:
                continue
            ends = {}
            for role in ("head", "tail"):
                end = entry[role]
                kb_id = kb_ids.get((end["start"], end["end"]), "")
                ends[role] = {**end, **({"kb_id": kb_id} if kb_id else {})}
            entities = {role: {**end, "name": end["text"]} for role, end in ends.items()}
            if node_key(entities["head"]) == node_key(entities["tail"]):
                # Two mentions of one node say nothing that the graph could hold.
                continue
            triple = {"relation": entry["relation"], "score": entry["score"]}
            nodes = network.add({**triple, **entities}, str(row.file), row.row)
            yield {
                "id": id,
                "file": str(row.file),
                "line": row.row if isinstance(row.row, int) else None,
                "unit": "characters" if sentence.words is None else "words",
                **{role: {**end, "node": node} for (role, end), node in zip(ends.items(), nodes, strict=True)},
                **triple,
            }

    def _names(self, relations: Iterable[str]) -> dict[str, EdgeTypeInfo]:
        known = self.pipe.prototypes
        names = {} if known is None else {r: info.name for r, info in zip(known.relations, known.info, strict=True)}
        return {relation: EdgeTypeInfo(names.get(relation, relation)) for relation in relations}


def _as_record(row: RowView | InvalidRowError) -> RowView | InvalidRowError:
    """A generated sample says its entities by their words; as a record it has their spans."""
    if isinstance(row, InvalidRowError) or "context" not in row.data:
        return row
    try:
        return RowView(row.file, row.row, parse_row(row))
    except InvalidRowError as error:
        return error


def _kept(entry: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a pair."""
    return {
        "relation": entry["relation"],
        "score": round(entry["score"], _DIGITS),
        "head": entry["head"],
        "tail": entry["tail"],
    }


def _key(sentence: Sentence) -> str:
    """The same for sentences of which a model says the same: those with the same words and the same pairs."""
    pairs = None
    if sentence.pairs is not None:
        pairs = [[[entity.start, entity.end, entity.type] for entity in pair] for pair in sentence.pairs]
    said = json.dumps([sentence.words or sentence.text, pairs])
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def _kb_ids(row: RowView) -> dict[tuple[int, int], str]:
    """What a row says the spans of its entities are in a knowledge base."""
    data = row.data
    found: dict[tuple[int, int], str] = {}
    for entity in [*(data.get(name) for name in ("head", "tail", "h", "t")), *(data.get("entities") or ())]:
        if isinstance(entity, dict):
            start, end = entity["pos"] if "pos" in entity else (entity["start"], entity["end"])
            # OpenNRE calls it the entity's id.
            found[start, end] = str(entity.get("kb_id") or (entity.get("id") if "pos" in entity else "") or "")
    return found


def _write_tables(tables: HINTables, folder: Path) -> None:
    """Writes the tables; each takes its place when it is whole, and the edges, which name the others' rows, last."""
    part = folder / ".part"
    write_hin(tables, part)
    for name in ("relations.csv", "nodes.csv", "edges.csv"):
        if (part / name).exists():
            os.replace(part / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    part.rmdir()


def _identity(pipe: RelationExtractionPipeline) -> dict[str, Any]:
    """What the relations of a sentence depend on, so that two models' are never mixed."""
    known = pipe.prototypes
    relations = hashlib.blake2b(json.dumps(pipe.relations).encode(), digest_size=16)
    if known is not None:
        relations.update(known.prototypes.numpy().tobytes())
        relations.update(repr(known.na_threshold).encode())
    processor = json.dumps([pipe.processor.marker, pipe.processor.max_length, pipe.processor.entity_types])
    ner = None if pipe.ner is None else _weights(pipe.ner.model)
    return {"model": _weights(pipe.model, processor), "relations": relations.hexdigest(), "ner": ner}


def _weights(model: nn.Module, more: str = "") -> str:
    digest = hashlib.blake2b(more.encode(), digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().float().numpy().tobytes())
    return digest.hexdigest()
