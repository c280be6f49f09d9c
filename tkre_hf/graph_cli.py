"""``tkre graph``: from sentences to a network that ``tkre hin`` reads."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tkre_hf.arguments import parse_arguments
from tkre_hf.graph_extraction import GraphArguments, extract_graph

_DESCRIPTION = """From sentences to a graph: entities, the relations between them, nodes.csv and edges.csv.

tkre graph sentences.jsonl -o graph --model tkre-bert
tkre graph reports/*.txt -o graph --model tkre-bert --ner my-ner --relation_info relations.yaml
tkre graph fewrel:wiki --split validation --data_dir DIR -o graph --model tkre-bert
tkre hin pretrain --network graph --output_dir my_model

A file is JSON lines, as 'tkre predict' reads them; lines of text (.txt) whose entities --ner finds or marks show; or
labelled records of any format, whose labels aren't looked at. The relations are the checkpoint's own ('tkre relations
fit'), or those of --supports and --relation_info; none of the above is never an edge. Mentions are one node if they
have the same kb_id, or without one the same type and name, case and white space aside. triples.jsonl says where each
edge comes from. An interrupted run goes on when it is started again, and one with more files reads only what is new.
"""


def main(argv: Sequence[str], prog: str) -> int:
    """Parses the command line and writes the graph.

    Raises:
        TkreError: A setting, the checkpoint or a row is wrong.
    """
    parsed: tuple[Any, ...] = parse_arguments((GraphArguments,), argv, _DESCRIPTION, prog, ("input",))
    (args,) = parsed
    graph = extract_graph(args)
    if graph.skipped:
        print(graph.skipped.summary(), file=sys.stderr)
    print(f"{graph.summary()}\nWritten to {args.output}: nodes.csv, edges.csv, triples.jsonl")
    return 0
