"""``tkre predict``: JSON lines in, relations out."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

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
a relation that is null is none of the above. A classifier gives no "similarity", and beside null, as "na_label", its
own label for that.
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
        default=None,
        metadata={
            "help": "File for the results, which stand in FILE.part until all are there; by default the standard "
            "output."
        },
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
    _check(args)
    skipped = SkippedRows()
    with quiet_libraries():
        pipe: RelationExtractionPipeline = load_pipeline(args.model, args.ner, args.device)
        if not pipe.relations:
            raise TkreError(
                f"there are no relations yet: teach it some with 'tkre relations fit --model {args.model}', or name a "
                "model that has them"
            )
        waiting: deque[str] = deque()
        read = identified_sentences(pipe, _rows(args), skipped if args.skip_invalid else None)
        if args.skip_invalid and pipe.ner is not None:
            read = _readable(pipe, read, skipped, args.batch_size)
        # Each one's id waits for its result.
        sentences = (waiting.append(id) or sentence for id, sentence in read)  # type: ignore[func-returns-value]
        with _results(args.output) as output:
            for relations in pipe(sentences, batch_size=args.batch_size, top_k=args.top_k):
                print(_line(waiting.popleft(), relations, args.model), file=output, flush=True)
    if skipped:
        # Rows are read ahead of the tagger.
        skipped.errors.sort(key=lambda error: int(error.row))
        print(skipped.summary(), file=sys.stderr)
    return 0


def _check(args: PredictArguments) -> None:
    """Refuses wrong settings before the model is loaded."""
    if args.batch_size < 1:
        raise TkreError(f"batch_size is {args.batch_size}: encode one pair at least")
    if args.top_k < 1:
        raise TkreError(f"top_k is {args.top_k}: expected a whole number, at least 1")
    if args.text and args.input != _STDIN:
        raise TkreError("give either --text or --input")
    if args.output is None:
        return
    output = Path(args.output)
    if output.is_dir():
        raise TkreError(f"{output} is a folder: name a file for the results")
    if args.input != _STDIN and output.is_file() and Path(args.input).exists() and output.samefile(args.input):
        raise TkreError(f"{output} is both input and output: name another file for the results")


@contextmanager
def _results(path: str | None) -> Iterator[TextIO]:
    """Where results are written to: a file takes the name ``path`` when it is whole.

    Raises:
        TkreError: It can't be written.
    """
    if path is None:
        yield sys.stdout
        return
    # A link stays one; a device or a pipe is written to as it is.
    whole = Path(path).resolve()
    part = whole if whole.exists() and not whole.is_file() else whole.with_name(f"{whole.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("w", encoding="utf-8")
    except OSError as error:
        raise TkreError(f"cannot write to {path}: {error.strerror or error}") from error
    try:
        with file:
            yield file
        if part != whole:
            part.replace(whole)
    finally:
        # Of a run that ended early what it found is left, if it found anything.
        if part.is_file() and not part.stat().st_size:
            part.unlink()


def _line(id: str, relations: list[dict[str, Any]], model: str) -> str:
    try:
        return json.dumps({"id": id, "relations": relations}, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise TkreError(f"{model} gives {id} scores that are no numbers: its weights are broken") from None


def _rows(args: PredictArguments) -> Iterable[RowView | InvalidRowError]:
    if args.text:
        return [RowView("text", i, {"text": text}) for i, text in enumerate(args.text, 1)]
    return parse_json_lines(sys.stdin.buffer, "stdin") if args.input == _STDIN else read_json_lines(args.input)


def identified_sentences(
    pipe: RelationExtractionPipeline, rows: Iterable[RowView | InvalidRowError], skipped: SkippedRows | None = None
) -> Iterator[tuple[str, Sentence]]:
    """Reads rows: id and sentence of each.

    Args:
        pipe: That the sentences are for.
        rows: Or the errors that stand in their place.
        skipped: Takes the errors; without it the first one is raised.

    Raises:
        InvalidRowError: A row is wrong, and ``skipped`` is None.
    """
    for row in rows:
        try:
            if isinstance(row, InvalidRowError):
                raise row
            id, sentence = row_id(row), read_sentence(row)
            if skipped is not None and (sentence.pairs is not None or pipe.ner is None):
                # What only the tokens tell, such as an entity that the window can't hold, would end the run.
                sentence = pipe.tokenized(sentence)
        except InvalidRowError as error:
            if skipped is None:
                raise
            skipped.errors.append(error)
            continue
        yield id, sentence


def _readable(
    pipe: RelationExtractionPipeline, read: Iterator[tuple[str, Sentence]], skipped: SkippedRows, batch_size: int
) -> Iterator[tuple[str, Sentence]]:
    """Leaves out sentences of which the tagger finds what can't be encoded."""
    while window := list(islice(read, batch_size)):
        found = pipe.readable([sentence for _, sentence in window], batch_size)
        for (id, _), sentence in zip(window, found, strict=True):
            if isinstance(sentence, InvalidRowError):
                skipped.errors.append(sentence)
            else:
                yield id, sentence


def main(argv: Sequence[str], prog: str) -> int:
    """Parses the command line and extracts.

    Raises:
        TkreError: A setting, the checkpoint or a row is wrong.
    """
    parsed: tuple[Any, ...] = parse_arguments((PredictArguments,), argv, _DESCRIPTION, prog)
    return predict(parsed[0])
