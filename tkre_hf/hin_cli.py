"""``tkre hin``: pre-train PF-HIN on a typed network, embed its nodes, find similar ones, and predict links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tkre_hf.arguments import log_to_console, parse_arguments
from tkre_hf.console import quiet_libraries
from tkre_hf.errors import TkreError
from tkre_hf.parsing import Main, run_action

_DESCRIPTION = """Typed networks: from a folder of tables to a transformer that knows its nodes, and to similar nodes.

tkre hin pretrain --network my_network --output_dir my_model --max_steps 500
tkre hin embed    --model my_model
tkre hin similar  --model my_model --node Q90 --k 10
tkre hin links    --model my_model --node Q90 --k 10
tkre hin hold-out --network my_network
tkre hin evaluate --model my_model --network my_network
tkre hin finetune --model my_model --network my_network --output_dir my_classifier

my_network holds nodes.csv (node_id,node_type,name) and edges.csv (src,dst,edge_type). 'tkre hin ACTION --help' lists
the settings of an action.
"""


@dataclass
class SimilarArguments:
    """Which nodes are sought."""

    model: str = field(metadata={"help": "Folder with embeddings.parquet and embeddings.faiss, or a Hub id that has."})
    node: str = field(metadata={"help": "Id of a node, or a name that is one node's alone."})
    k: int = field(default=10, metadata={"help": "How many nodes."})
    any_type: bool = field(default=False, metadata={"help": "Nodes of other types too."})


@dataclass
class HoldOutArguments:
    """Which links are held out of a network."""

    network: str = field(metadata={"help": "Folder with nodes and edges, as .csv or .parquet."})
    share: float = field(
        default=0.05, metadata={"help": "Of the pairs of nodes with an edge, to choose settings on; as many to test."}
    )
    seed: int = field(default=0, metadata={"help": "Another one, other links."})
    output_dir: str | None = field(default=None, metadata={"help": "Where they go; into the network by default."})


def _pretrain(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.hin_training import PFHINStageArguments, pretrain
    from tkre_hf.pfhin.training_args import PFHINTrainingArguments

    description = f"Pre-trains PF-HIN on a network.\n\n{prog} --network my_network --output_dir my_model"
    args, training_args = parse_arguments((PFHINStageArguments, PFHINTrainingArguments), argv, description, prog)
    log_to_console(training_args)
    folder = pretrain(args, training_args)
    print(f"the model and its graph are in {folder}")
    return 0


def _finetune(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.hin_tasks import FinetuneArguments, PFHINFinetuningArguments, finetune

    description = f"Fine-tunes a model for a task.\n\n{prog} --model my_model --network my_network --output_dir out"
    args, training_args = parse_arguments((FinetuneArguments, PFHINFinetuningArguments), argv, description, prog)
    scores = finetune(args, training_args)
    print(", ".join(f"{name} {value:.1f}" for name, value in scores.items()))
    return 0


def _embed(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.hin_tasks import EmbedArguments, embed

    description = f"Writes the embeddings of all nodes, with a faiss index.\n\n{prog} --model my_model"
    (args,) = parse_arguments(EmbedArguments, argv, description, prog)
    with quiet_libraries():
        print(f"embeddings and index are beside each other: {embed(args)}")
    return 0


def _similar(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.hin_training import checkpoint_folder
    from tkre_hf.hub_files import is_hub_id
    from tkre_hf.pfhin.embedding import EMBEDDINGS, EmbeddingTable

    description = f"Lists the nodes most similar to one.\n\n{prog} --model my_model --node Q90"
    (args,) = parse_arguments(SimilarArguments, argv, description, prog)
    folder = checkpoint_folder(args.model)
    if is_hub_id(args.model) and not (folder / EMBEDDINGS).exists():
        raise TkreError(
            f"{args.model} has no embeddings on the Hub: write them with tkre hin embed --model {args.model} "
            "--output_dir FOLDER, and search FOLDER"
        )
    for node_id, name, cosine in EmbeddingTable(folder).similar(args.node, args.k, not args.any_type):
        print(f"{cosine:.3f}  {node_id}  {name}")
    return 0


def _links(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.hin_links import LinksArguments, predict_node_links

    description = f"Lists the likeliest links of a node that the network lacks.\n\n{prog} --model my_model --node Q90"
    (args,) = parse_arguments(LinksArguments, argv, description, prog)
    with quiet_libraries():
        links = predict_node_links(args)
    for link in links:
        print(f"{link.probability:.3f}  {link.head}  {link.edge_type}  {link.tail}  ({link.other})")
    return 0


def _hold_out(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.data import draw_links, read_hin, write_links

    description = (
        "Draws links that a model is to be measured on, before it is trained, and false ones beside them.\n\n"
        f"{prog} --network my_network --share 0.05"
    )
    (args,) = parse_arguments(HoldOutArguments, argv, description, prog)
    tables = read_hin(args.network)
    drawn = draw_links(tables, args.share, args.seed)
    # Parquet for a network in Parquet, whose ids CSV may not be able to hold.
    suffix = ".parquet" if (Path(args.network) / "nodes.parquet").exists() else ".csv"
    paths = {part: Path(args.output_dir or args.network) / f"links_{part}{suffix}" for part in drawn}
    for path in paths.values():
        if path.exists():
            raise TkreError(f"{path} is there: move it away, or give another --output_dir")
        path.parent.mkdir(parents=True, exist_ok=True)
    for part, links in drawn.items():
        write_links(tables, links, paths[part])
        true = int(links.label.sum())
        print(f"{paths[part]}: {true} links, {len(links) - true} false ones")
    print(f"pre-train with --hold_out_links {' '.join(map(str, paths.values()))}")
    return 0


def _evaluate(argv: Sequence[str], prog: str) -> int:
    from tkre_hf.evaluation.report import table
    from tkre_hf.hin_evaluation import EvaluateArguments, evaluate

    description = (
        f"Measures a checkpoint on labelled nodes, and on links that were held out of its graph.\n\n"
        f"{prog} --model my_model --network my_network --scheme few40\n"
        f"{prog} --model my_model --valid_links links_valid.csv --test_links links_test.csv"
    )
    (args,) = parse_arguments(EvaluateArguments, argv, description, prog)
    with quiet_libraries():
        rows, notes = evaluate(args)
    for benchmark in dict.fromkeys(row.benchmark for row in rows):
        print(f"{benchmark}\n{table([row for row in rows if row.benchmark == benchmark])}\n")
    print("\n".join(notes))
    return 0


ACTIONS: dict[str, Main] = {
    "pretrain": _pretrain,
    "embed": _embed,
    "similar": _similar,
    "links": _links,
    "hold-out": _hold_out,
    "evaluate": _evaluate,
    "finetune": _finetune,
}


def main(argv: Sequence[str], prog: str) -> int:
    """Does one of the actions.

    Raises:
        TkreError: The action is unknown, or its input is wrong.
    """
    return run_action(ACTIONS, argv, prog, _DESCRIPTION)
