"""What the pages take for granted that their reader has: the repository, labelled rows, a network, a checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from tkre_hf.data import load_records, load_sample, make_record, write_hin
from tkre_hf.data.fewrel import format_sentence
from tkre_hf.data.schema import Record
from tkre_hf.tkre.modeling_parts import relation_states
from tkre_hf.tkre.modeling_tkre import TKREForPreTraining
from tkre_hf.tkre.processing_tkre import TKREProcessor

from ..hub.conftest import write_knowledge, write_lines
from ..knowledge.servers import sample, seeded
from ..pfhin.conftest import make_tables

ROOT = Path(__file__).parents[2]
# What a clone of the repository has, of what a page may name.
FILES = ("Makefile", "pyproject.toml", "constraints.txt", "constraints-min.txt", "README.md")
FOLDERS = ("benchmarks", "docs", "recipes", "tkre_hf")

# Relation: the types of head and tail, and how it is said.
ROWS = {
    "founded_by": ("ORGANIZATION", "PERSON", ["{h} was founded by {t} .", "In 1911 {t} set up {h} ."]),
    "capital of": ("CITY", "COUNTRY", ["{h} is the capital of {t} .", "{t} is ruled from {h} ."]),
    "spouse": ("PERSON", "PERSON", ["{h} is married to {t} .", "Last May {t} became the husband of {h} ."]),
    "ingredient of": ("FOOD", "FOOD", ["{h} goes into every {t} .", "No {t} is made without {h} ."]),
    "no relation": ("THING", "THING", ["{h} was there , and so was {t} .", "Neither {h} nor {t} was seen ."]),
}
HEADS = ["Arvo", "Bask", "Corin", "Delft", "Emden", "Flann", "Garve", "Hesper"]
TAILS = ["Ino", "Jarn", "Kolm", "Lund", "Maren", "Nesse", "Orrin", "Pell"]
# Whom the pages ask for in the graph of FewRel's sentences.
ASKED = ["Oda Slobodskaya", "River Thames"]


def labelled_rows(each: int, shift: int, rows: Mapping[str, Any] = ROWS) -> list[dict[str, Any]]:
    """So many rows of each relation; with another shift, of other pairs of entities."""
    found = []
    for relation, (head_type, tail_type, templates) in rows.items():
        for i in range(each):
            words = templates[i % len(templates)].split()
            head, tail = words.index("{h}"), words.index("{t}")
            words[head], words[tail] = HEADS[i], TAILS[(i + shift) % len(TAILS)]
            spans = {"head": (head, head + 1), "tail": (tail, tail + 1)}
            types = {"head_type": head_type, "tail_type": tail_type}
            found.append(make_record(id=f"{relation}-{shift}-{i}", tokens=words, relation=relation, **spans, **types))
    return found


def write_data(folder: Path) -> None:
    """Part of the bundled corpus, and files in FewRel's format with sentences of it under other labels."""
    folder.mkdir(parents=True)
    names = {}
    for file, split, count in (("train_wiki", "train", 12), ("val_wiki", "validation", 10)):
        relations: dict[str, list[Any]] = {}
        for record in load_sample(split):
            label = f"P{record['relation']}"
            if label in relations or len(relations) < count:
                relations.setdefault(label, []).append(format_sentence(record))
                names[label] = [record["relation"], "what one has to do with the other"]
        (folder / f"{file}.json").write_text(json.dumps(relations), encoding="utf-8")
    (folder / "pid2name.json").write_text(json.dumps(names), encoding="utf-8")
    # The corpus has its relations one after the other.
    write_lines(folder / "sample.jsonl", load_records("sample:train", split="train[:240]"))


def about(record: Record, tail: str) -> Record:
    """A record's sentence about another tail."""
    tokens, start, end = record["tokens"], record["tail"]["start"], record["tail"]["end"]
    words = tail.split()
    moved = (len(words) - (end - start)) * (record["head"]["start"] > start)
    return make_record(
        id=f"{record['id']}-{tail}",
        tokens=[*tokens[:start], *words, *tokens[end:]],
        head=(record["head"]["start"] + moved, record["head"]["end"] + moved),
        tail=(start, start + len(words)),
        relation=record["relation"],
    )


def write_validation_files(folder: Path) -> None:
    """What a folder of FewRel's files has of its validation relations: the bundled corpus' sentences, and these again
    and again about two tails."""
    folder.mkdir()
    sentences: dict[str, list[Any]] = {}
    names = {}
    for record in load_sample("validation"):
        label = record["relation"]
        names[label] = [label, "what one has to do with the other"]
        sentences.setdefault(label, []).extend(
            map(format_sentence, [record, *(about(record, tail) for tail in ASKED)])
        )
    relations = {label: [rows[i % len(rows)] for i in range(125)] for label, rows in sentences.items()}
    (folder / "val_wiki.json").write_text(json.dumps(relations), encoding="utf-8")
    (folder / "pid2name.json").write_text(json.dumps(names), encoding="utf-8")


def write_semeval(folder: Path) -> None:
    """SemEval-2010 Task 8 in small: two rows of each relation, and what a language model has said of them."""
    info = yaml.safe_load((ROOT / "recipes" / "configs" / "semeval_relations.yaml").read_text(encoding="utf-8"))
    said = {
        label: ("THING", "THING", [f"{{h}} makes {i} of {{t}} .", f"From {{t}} came {i} {{h}} ."])
        for i, label in enumerate(info)
    }
    train = labelled_rows(2, 0, said)
    write_lines(folder / "kshot" / "8-1" / "train.txt", train)
    write_lines(folder / "test.txt", labelled_rows(2, 3, said))
    explained = [
        {"row": i, "relation": row["relation"], "explanation": f"{' '.join(row['tokens'])} This is reason {i}."}
        for i, row in enumerate(train)
    ]
    samples = [
        {"relation": label, **sample(seeded(label, i), ["THING"], ["THING"])}
        for label in info
        if label != "Other"
        for i in range(3)
    ]
    write_lines(folder / "knowledge" / "8-1" / "explanations.jsonl", explained)
    write_lines(folder / "knowledge" / "8-1" / "synthetic.jsonl", samples)


def clone(folder: Path, programs: Path) -> None:
    """The repository as its reader has cloned it, its environment made."""
    folder.mkdir(parents=True)
    for name in FILES + FOLDERS:
        (folder / name).symlink_to(ROOT / name)
    # `make` finds the environment up to date.
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(programs)
    (folder / ".venv" / "installed").touch()


def furnish(folder: Path, backbone: Path) -> None:
    """What the how-to pages speak of as the reader's own."""
    train, test = labelled_rows(8, 0), labelled_rows(3, 3)
    write_lines(folder / "train.jsonl", train)
    write_lines(folder / "test.jsonl", test)
    write_lines(folder / "dev.jsonl", labelled_rows(3, 5))
    tables = make_tables()
    tables.node_ids[3] = "Q90"
    write_hin(tables, folder / "my_network")
    write_lines(folder / "supports.jsonl", labelled_rows(4, 0))
    write_knowledge(folder / "my_knowledge", train)
    meanings = {relation: {"description": f"what {relation} says"} for relation in ROWS}
    (folder / "relations.yaml").write_text(yaml.safe_dump(meanings), encoding="utf-8")
    write_validation_files(folder / "DIR")

    torch.manual_seed(0)
    processor = TKREProcessor.from_backbone(str(backbone), max_length=64)
    model = TKREForPreTraining.from_backbone(
        str(backbone), len(processor.tokenizer), processor.new_tokens, projection_dim=16
    )
    teach(model, processor)
    for name in ("tkre-bert", "tkre-fewrel", "outputs/stage1_fewrel", "outputs/stage2_fewrel"):
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)


@torch.no_grad()
def teach(model: TKREForPreTraining, processor: TKREProcessor) -> None:
    """Lets sentences of the bundled corpus be nearer to others of their relation than to any more, as training would.

    To an encoder of random weights all sentences look alike, and none would be anything but none of the above. This is
    training at once: the projection that least squares finds from a sentence's states to its relation's own axis.
    """
    records = load_sample("validation")
    relations = sorted(set(records["relation"]))
    axes = torch.eye(len(relations))[[relations.index(name) for name in records["relation"]]]
    encoded = processor.encode(list(records))
    inputs = processor.pad([features["input_ids"] for features in encoded])
    spans = torch.tensor([features["entity_spans"] for features in encoded])
    states = relation_states(model.eval().base.encode(**inputs), inputs["attention_mask"], spans)
    projection = model.base.relation_projection
    projection.bias.copy_(axes.mean(0))
    found = torch.linalg.lstsq(states - states.mean(0), axes - axes.mean(0), driver="gelsd").solution
    projection.weight.copy_(found.T)
    projection.bias.sub_(found.T @ states.mean(0))


def copy_into(source: Path, folder: Path) -> None:
    """Gives a page's folder its own copies."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
