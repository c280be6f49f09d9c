"""``tkre relations``: teaches a checkpoint somebody's relations, without training, and lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tkre_hf.arguments import parse_arguments
from tkre_hf.console import quiet_libraries
from tkre_hf.data import load_records, load_relation_info
from tkre_hf.data.reading import RowView
from tkre_hf.data.relations import RelationInfo
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import markdown
from tkre_hf.parsing import ArgumentsError, Main, run_action
from tkre_hf.tkre.inputs import Sentence, read_sentence
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

_DESCRIPTION = """The relations that a checkpoint knows: by labelled sentences, by descriptions, or by both.

tkre relations fit    --model tkre-bert --supports supports.jsonl --relation_info relations.yaml
tkre relations fit    --model tkre-bert --relation_info relations.yaml
tkre relations add    --model tkre-bert --relation spouse --description "person that somebody is married to"
tkre relations remove --model tkre-bert --relation spouse
tkre relations list   --model tkre-bert

They are written beside the checkpoint (prototypes.safetensors, relations.json), for 'tkre predict' and for
pipeline("relation-extraction", model="tkre-bert"). 'tkre relations ACTION --help' lists the settings of an action.
"""


@dataclass
class ListArguments:
    """Whose relations."""

    model: str = field(metadata={"help": "Checkpoint: a folder or Hub id."})


@dataclass
class _ChangeArguments(ListArguments):
    output: str | None = field(
        default=None,
        metadata={"help": "Folder for a copy of the checkpoint with the relations; the checkpoint's own."},
    )
    device: str | None = field(
        default=None, metadata={"help": "Such as cpu or cuda:1; the accelerator by default, if there is one."}
    )


@dataclass
class RelationSource:
    """Where relations are learned from."""

    supports: str | None = field(
        default=None, metadata={"help": "Labelled sentences, a few of each relation: a file of any format read."}
    )
    relation_info: str | None = field(
        default=None, metadata={"help": "Relation names and descriptions: YAML, JSON lines, or pid2name.json."}
    )
    relations: list[str] = field(
        default_factory=list, metadata={"help": "Labels of the relations to take; all of both files by default."}
    )
    na_threshold: float | None = field(
        default=None,
        metadata={
            "help": "Similarity below which a sentence has none of them; by default what serves best where each "
            "support in turn is taken out, or else what the checkpoint has."
        },
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Leave wrong supports out, and list them."})

    def read(self) -> tuple[list[Sentence], dict[str, RelationInfo]]:
        """The supports, and what is known of relations, as ``RelationExtractionPipeline.fit`` takes them.

        Raises:
            TkreError: Neither is given, a row is wrong, or ``relations`` names one that stands in neither.
        """
        if self.supports is None and self.relation_info is None:
            raise TkreError("give --supports, --relation_info, or both: they say which relations there are")
        info = load_relation_info(self.relation_info) if self.relation_info is not None else {}
        supports = _supports(self.supports, self.skip_invalid) if self.supports is not None else []
        if self.relations:
            known = {*info, *(sentence.row.data["relation"] for sentence in supports)}
            if unknown := sorted(set(self.relations) - known):
                raise TkreError(
                    f"relations names {unknown[0]!r}, of which there is neither a support nor a description"
                )
            info = {relation: info[relation] for relation in self.relations if relation in info}
            supports = [sentence for sentence in supports if sentence.row.data["relation"] in self.relations]
        return supports, info


@dataclass
class FitArguments(RelationSource, _ChangeArguments):
    """The relations that a checkpoint shall know, in place of those it knew."""


@dataclass
class AddArguments(_ChangeArguments):
    """One relation more."""

    relation: str = field(kw_only=True, metadata={"help": "Its label."})
    name: str = field(default="", metadata={"help": "Its name, if the label's own words aren't."})
    description: str = field(default="", metadata={"help": "What it means."})
    supports: str | None = field(
        default=None, metadata={"help": "Labelled sentences; those with its label are taken."}
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Leave wrong supports out, and list them."})


@dataclass
class RemoveArguments(_ChangeArguments):
    """One relation less."""

    relation: str = field(kw_only=True, metadata={"help": "Its label."})


def _fit(argv: Sequence[str], prog: str) -> int:
    description = f"""Teaches a checkpoint relations, in place of those it knew, without training.
It needs the checkpoint (--model) and labelled sentences (--supports), descriptions (--relation_info), or both.

{prog} --model tkre-bert --supports supports.jsonl --relation_info relations.yaml
"""
    args: FitArguments = _parse(FitArguments, argv, description, prog)
    supports, info = args.read()
    with quiet_libraries():
        # What it knew goes, and may be another model's.
        pipe = _load(args, with_relations=False)
        pipe.fit(supports, info)
    if args.na_threshold is not None:
        pipe.na_threshold = args.na_threshold
    return _save(pipe, args)


def _add(argv: Sequence[str], prog: str) -> int:
    description = f"""Teaches a checkpoint one relation more, without training.
It needs the checkpoint (--model), the relation's label (--relation), and its --description, sentences of it in
--supports, or both.

{prog} --model tkre-bert --relation spouse --description "person that somebody is married to"
"""
    args: AddArguments = _parse(AddArguments, argv, description, prog)
    relation = _required(args.relation)
    supports = []
    if args.supports is not None:
        rows = _supports(args.supports, args.skip_invalid)
        supports = [sentence for sentence in rows if sentence.row.data["relation"] == relation]
        if not supports:
            found = ", ".join(sorted({sentence.row.data["relation"] for sentence in rows}))
            raise TkreError(f"{args.supports} has no sentence of {relation!r}, but of {found or 'no relation'}")
    with quiet_libraries():
        pipe = _load(args)
        pipe.add(relation, supports, args.description, args.name)
    return _save(pipe, args)


def _remove(argv: Sequence[str], prog: str) -> int:
    description = f"""Has a checkpoint forget a relation.
It needs the checkpoint (--model) and the relation's label (--relation).

{prog} --model tkre-bert --relation spouse
"""
    args: RemoveArguments = _parse(RemoveArguments, argv, description, prog)
    with quiet_libraries():
        pipe = _load(args)
        pipe.remove(_required(args.relation))
    return _save(pipe, args)


def _list(argv: Sequence[str], prog: str) -> int:
    description = f"Lists the relations that a checkpoint (--model) knows.\n\n{prog} --model tkre-bert"
    args: ListArguments = _parse(ListArguments, argv, description, prog)
    with quiet_libraries():
        pipe = load_pipeline(args.model)
    print(_table(pipe))
    return 0


def _parse(kind: type, argv: Sequence[str], description: str, prog: str) -> Any:
    (args,) = parse_arguments((kind,), argv, description, prog)
    return args


def _required(relation: str) -> str:
    if not relation:
        raise ArgumentsError("--relation is missing: the label of the relation")
    return relation


def _supports(source: str, skip_invalid: bool) -> list[Sentence]:
    with quiet_libraries():
        records = load_records(source, skip_invalid=skip_invalid)  # which lists those left out
    return [read_sentence(RowView(source, record["id"], record)) for record in records]


def _load(args: _ChangeArguments, with_relations: bool = True) -> RelationExtractionPipeline:
    """The checkpoint, once there is a folder for what it learns."""
    if args.output is not None and Path(args.output).exists() and not Path(args.output).is_dir():
        raise TkreError(f"{args.output} is a file: name a folder for a copy of the checkpoint")
    pipe: RelationExtractionPipeline = load_pipeline(args.model, device=args.device, with_relations=with_relations)
    if args.output is None and not Path(args.model).is_dir():
        raise TkreError(f"{args.model} is no folder to write to: give --output, a folder for a copy of the checkpoint")
    return pipe


def _save(pipe: RelationExtractionPipeline, args: _ChangeArguments) -> int:
    folder = Path(args.output or args.model)
    try:
        with quiet_libraries():
            if folder.is_dir() and folder.resolve() == Path(args.model).resolve():
                pipe.save_relations(folder)
            else:
                pipe.save_pretrained(folder)
    except OSError as error:
        raise TkreError(f"cannot write to {folder}: {error.strerror or error}") from error
    print(f"{_table(pipe)}\n\nWritten to {folder}")
    return 0


def _table(pipe: RelationExtractionPipeline) -> str:
    known = pipe.prototypes
    if known is None:
        return "\n".join(pipe.relations) or "no relations yet"
    cells = [["relation", "supports", "name", "description"], ["---", "---:", "---", "---"]]
    for number, (relation, info) in enumerate(zip(known.relations, known.info, strict=True)):
        cells.append([relation, str(int((known.support_labels == number).sum())), info.name, info.description])
    threshold = known.na_threshold
    none = "never" if threshold is None else f"where no similarity reaches {threshold:.3f}"
    return f"{markdown(cells)}\n\nNone of the above: {none}"


ACTIONS: dict[str, Main] = {
    "fit": _fit,
    "add": _add,
    "remove": _remove,
    "list": _list,
}


def main(argv: Sequence[str], prog: str) -> int:
    """Does one of the actions.

    Raises:
        TkreError: The action is unknown, or its input is wrong.
    """
    return run_action(ACTIONS, argv, prog, _DESCRIPTION)
