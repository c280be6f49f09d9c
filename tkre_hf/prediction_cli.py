"""``tkre predict``: JSON lines in, relations out."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tkre_hf.arguments import parse_arguments
from tkre_hf.console import quiet_libraries
from tkre_hf.data.jsonl import row_id
from tkre_hf.data.reading import RowView, SkippedRows, parse_json_lines, read_json_lines
from tkre_hf.errors import InvalidRowError, TkreError
from tkre_hf.tkre.inputs import Sentence, read_sentence
from tkre_hf.tkre.loading import load_pipeline
from tkre_hf.tkre.pipeline import RelationExtractionPipeline

_DESCRIPTION = """Extracts relations: a classifier's, or those that 'tkre relations' taught a checkpoint.

tkre predict --model tkre-bert --text "[E1]Oslo[/E1] is the capital of [E2]Norway[/E2]."
tkre predict --model tkre-bert --input sentences.jsonl --output relations.jsonl
cat sentences.jsonl | tkre predict --model tkre-bert --top_k 3

A line of the input is one of
  {"text": "Oslo is the capital of Norway.", "head": [0, 4], "tail": [23, 29]}     spans in characters
  {"text": "…", "entities": [[0, 4], [23, 29]]}                                    all ordered pairs
  {"text": "[E1]Oslo[/E1] is the capital of [E2]Norway[/E2]."}                     marks
  {"text": "Oslo is the capital of Norway."}                                       entities found by --ner
  {"words": ["Oslo", "is", …], "head": [0, 1], "tail": [5, 6]}                     spans in words
and a line of the output {"id": …, "relations": [{"relation", "score", "similarity", "head", "tail", "truncated"}, …]};
a relation that is null is none of the above.
"""
_STDIN = "-"


@dataclass
class PredictArguments:
    """What is extracted, and with what."""

    model: str = field(metadata={"help": "Checkpoint: a folder or Hub id."})
    input: str = field(default=_STDIN, metadata={"help": "JSON lines: a file, or '-' for the standard input."})
    text: list[str] = field(
        default_factory=list, metadata={"help": "Sentences with marks, or for --ner without, instead of an input."}
    )
    output: str | None = field(
        default=None, metadata={"help": "File for the results; the standard output by default."}
    )
    top_k: int = field(default=1, metadata={"help": "How many relations of each pair, the best first."})
    ner: str | None = field(
        default=None, metadata={"help": "Token classification model that finds the entities where none are given."}
    )
    batch_size: int = field(default=32, metadata={"help": "Pairs encoded at once."})
    device: str | None = field(
        default=None, metadata={"help": "Such as cpu or cuda:1; the accelerator by default, if there is one."}
    )
    skip_invalid: bool = field(default=False, metadata={"help": "Leave wrong rows out, and list them at the end."})


def predict(args: PredictArguments) -> int:
    """Writes one line for each row, as they come.

    Returns:
        The exit code: 0, also where wrong rows were skipped.

    Raises:
        TkreError: The checkpoint or a row is wrong.
    """
    if args.batch_size < 1:
        raise TkreError(f"batch_size is {args.batch_size}: encode one pair at least")
    skipped = SkippedRows()
    with quiet_libraries(), ExitStack() as stack:
        pipe = load_pipeline(args.model, args.ner, args.device)
        output = stack.enter_context(open(args.output, "w", encoding="utf-8")) if args.output else sys.stdout
        waiting: deque[str] = deque()
        sentences = _sentences(pipe, _rows(args), waiting, skipped if args.skip_invalid else None)
        for relations in pipe(sentences, batch_size=args.batch_size, top_k=args.top_k):
            line = json.dumps({"id": waiting.popleft(), "relations": relations}, ensure_ascii=False)
            print(line, file=output, flush=True)
    if skipped:
        print(skipped.summary(), file=sys.stderr)
    return 0


def _rows(args: PredictArguments) -> Iterable[RowView | InvalidRowError]:
    if args.text:
        if args.input != _STDIN:
            raise TkreError("give either --text or --input")
        return [RowView("text", i, {"text": text}) for i, text in enumerate(args.text, 1)]
    return parse_json_lines(sys.stdin.buffer, "stdin") if args.input == _STDIN else read_json_lines(args.input)


def _sentences(
    pipe: RelationExtractionPipeline,
    rows: Iterable[RowView | InvalidRowError],
    waiting: deque[str],
    skipped: SkippedRows | None,
) -> Iterator[Sentence]:
    """Reads the rows; each one's id waits for its result."""
    for row in rows:
        try:
            if isinstance(row, InvalidRowError):
                raise row
            id, sentence = row_id(row), read_sentence(row)
            if skipped is not None and (sentence.pairs is not None or pipe.ner is None):
                # What only the tokens tell, such as an entity that the window can't hold, would end the run.
                any(False for _ in pipe.preprocess(sentence))
        except InvalidRowError as error:
            if skipped is None:
                raise
            skipped.errors.append(error)
            continue
        waiting.append(id)
        yield sentence


def main(argv: Sequence[str], prog: str) -> int:
    """Parses the command line and extracts.

    Raises:
        TkreError: A setting, the checkpoint or a row is wrong.
    """
    parsed: tuple[Any, ...] = parse_arguments((PredictArguments,), argv, _DESCRIPTION)
    return predict(parsed[0])
