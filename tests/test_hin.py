"""From a folder of tables to similar nodes, a classifier and links: as the command line and the recipes do it."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import tkre_hf
from tkre_hf.cli import main as tkre
from tkre_hf.data.hin import HINTables, read_hin, read_links, write_hin
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import Row, read_rows, write_rows
from tkre_hf.hin_links import link_scorers, scorer_figures
from tkre_hf.hin_reproduction import draw_split
from tkre_hf.hin_systems import BENCHMARKS
from tkre_hf.hin_tasks import frozen_scores, split_of
from tkre_hf.hin_training import NetworkArguments, load_graph, load_model, load_network
from tkre_hf.pfhin.links import MixedScorer

from .pfhin.conftest import make_tables

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = ["--hidden_size", "16", "--embedding_size", "8", "--num_hidden_layers", "2", "--num_attention_heads", "2"]
TINY += ["--intermediate_size", "24", "--num_walks", "4", "--walk_length", "6", "--max_length", "10"]
FINETUNE = ["hin", "finetune", "--model", "{model}", "--network", "{net}", "--output_dir", "{out}"]
LINKS = ["--task", "links", "--valid_links", "{net}/links_valid.csv", "--test_links", "{net}/links_test.csv"]
TINY += ["--use_cpu", "--bf16", "false", "--disable_tqdm", "true"]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network's tables, and links to judge."""
    folder = tmp_path_factory.mktemp("network")
    tables = make_tables()
    write_hin(tables, folder)
    rng = np.random.default_rng(0)
    for part in ("valid", "test"):
        lines = ["src,dst,edge_type,label"]
        for i in rng.choice(len(tables.src), 12, replace=False):
            lines.append(f"n{tables.src[i]},n{tables.dst[i]},{tables.edge_types[tables.edge_type[i]]},1")
            lines.append(f"n{tables.src[i]},n{rng.integers(60)},knows,0")
        (folder / f"links_{part}.csv").write_text("\n".join(lines) + "\n")
    return folder


def links(network: Path) -> list[str]:
    return [str(network / f"links_{part}.csv") for part in ("valid", "test")]


@pytest.fixture(scope="module")
def model(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pre-trained for a few steps, the links held out."""
    folder = tmp_path_factory.mktemp("model") / "out"
    argv = ["hin", "pretrain", "--network", str(network), "--output_dir", str(folder), "--max_steps", "8", *TINY]
    assert tkre([*argv, "--hold_out_links", *links(network), "--per_device_train_batch_size", "16"]) == 0
    return folder


def test_from_tables_to_similar_nodes(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"model.safetensors", "config.json", "train_results.json", "graph"} <= {p.name for p in model.iterdir()}
    assert not list(model.glob("*.bin"))
    results = json.loads((model / "train_results.json").read_text())
    assert results["parameters"] > 0 and results["train_cpu_minutes"] >= 0
    assert tkre(["hin", "embed", "--model", str(model), "--num_walks", "2"]) == 0
    capsys.readouterr()
    assert tkre(["hin", "similar", "--model", str(model), "--node", "n3", "--k", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.split()[1].startswith("n") and "name n" in line for line in lines)
    table = tkre_hf.EmbeddingTable(model)
    assert [id for id, *_ in table.similar("n3", 4)] == [line.split()[1] for line in lines]


def test_a_card_tells_what_it_is_and_its_code_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = ModelCard.load(model / "README.md")
    assert card.data.pipeline_tag == "graph-ml" and "3 types of nodes and 3 of edges" in card.text
    assert re.search(r"^\| `max_steps` +\| 8 +\|$", card.text, re.M)
    assert str(model.parent) not in str(card)
    monkeypatch.chdir(model.parent)
    (code,) = re.findall(r"^```python\n(.*?)^```$", card.text, re.S | re.M)
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(found["vectors"]) == 69


def test_what_is_held_out_is_in_no_graph(model: Path, network: Path) -> None:
    graph, *_ = load_graph(model)
    tables, whole = load_network(NetworkArguments(str(network)))
    assert isinstance(graph.indices, np.memmap) and graph.num_edges < whole.num_edges
    for path in links(network):
        for line in Path(path).read_text().splitlines()[1:]:
            src, dst, kind, label = line.split(",")
            if label == "1":
                ends = tables.node_ids.index(src), tables.node_ids.index(dst), tables.edge_types.index(kind)
                assert ends not in set(zip(*(part.tolist() for part in graph.edges()), strict=True))
    dropped = load_network(NetworkArguments(str(network), ["lives"]))[1]
    assert dropped.num_edges == whole.num_edges - 60


def test_a_run_that_came_to_no_checkpoint_leaves_no_graph_for_the_next(network: Path, tmp_path: Path) -> None:
    argv = ["hin", "pretrain", "--network", str(network), "--output_dir", str(tmp_path / "out"), *TINY]
    argv += ["--max_steps", "1", "--save_strategy", "no"]
    # More nodes in a batch than there are.
    assert tkre([*argv, "--per_device_train_batch_size", "9999"]) == 2
    assert (tmp_path / "out" / "graph" / "graph.json").exists()
    (tmp_path / "out" / "graph" / "texts.npy").write_bytes(b"of other nodes")
    (tmp_path / "out" / "graph" / "notes.txt").write_text("a person's own")
    assert tkre([*argv, "--per_device_train_batch_size", "16", "--drop_edge_types", "lives"]) == 0
    graph, _, texts = load_graph(tmp_path / "out")
    dropped = load_network(NetworkArguments(str(network), ["lives"]))[1]
    assert graph.num_edges == dropped.num_edges and texts is None
    assert (tmp_path / "out" / "graph" / "notes.txt").exists()


def test_blocks_are_chosen_without_the_test_nodes(
    model: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluated(*more: str) -> tuple[str, dict[str, float]]:
        argv = ["hin", "evaluate", "--model", str(model), "--num_walks", "1"]
        assert tkre([*argv, "--network", str(network), "--output_dir", str(tmp_path / "out"), *more]) == 0
        rows = read_rows(tmp_path / "out" / "results.json")
        return capsys.readouterr().out, {row.metric: row.value for row in rows}

    told, chosen = evaluated("--choose_blocks", "true")
    (words,) = re.findall(r"tkre hin embed --model \S+ (--blocks.*)", told)
    assert evaluated(*words.split())[1] == chosen
    # They are none of the figures of the default blocks.
    evaluated()
    assert len({row.setting for row in read_rows(tmp_path / "out" / "results.json")}) == 12
    # Other labels of the test nodes, and the same choice.
    moved = tmp_path / "moved"
    tables = read_hin(network)
    test = tables.splits["few"]["test"]
    tables.labels[test] = np.roll(tables.labels[test], 7)
    write_hin(tables, moved)
    again, other = evaluated("--choose_blocks", "true", "--network", str(moved))
    assert words in again and other != chosen

    assert tkre(["hin", "embed", "--model", str(model), "--output_dir", str(tmp_path), "--blocks.ids", "2"]) == 0
    ids = tkre_hf.EmbeddingTable(tmp_path).vectors
    assert ids.shape[1] == 8
    for wrong, says in (
        (["--blocks.ids", "no"], "weights that are numbers, found {'ids': 'no'}"),
        (["--blocks.ids", "0"], "weighs 0"),
        (["--blocks.id", "1"], "found id"),
        (["--blocks.ids", "1", "--choose_blocks", "true", "--network", str(network)], "leave out one"),
        (["--choose_blocks", "true", "--valid_links", "x", "--test_links", "x"], "give --network"),
    ):
        action = "evaluate" if "--choose_blocks" in wrong else "embed"
        assert tkre(["hin", action, "--model", str(model), "--output_dir", str(tmp_path), *wrong]) == 2
        assert says in capsys.readouterr().err


def test_fine_tuning_goes_on_and_writes_over_nothing(model: Path, network: Path, tmp_path: Path) -> None:
    def finetune(folder: str, *more: str) -> int:
        argv = ["hin", "finetune", "--model", str(model), "--network", str(network), "--num_train_epochs", "4"]
        argv += ["--save_strategy", "epoch", "--use_cpu", "--disable_tqdm", "true"]
        return tkre([*argv, "--output_dir", str(tmp_path / folder), *more])

    def weights(folder: str) -> bytes:
        return (tmp_path / folder / "model.safetensors").read_bytes()

    assert finetune("whole") == 0
    before = weights("whole")
    assert finetune("whole", "--seed", "1") == 2 and weights("whole") == before
    # As if it had been killed in the middle.
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    first, *later = sorted((tmp_path / "killed").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    for path in (*later, tmp_path / "killed" / "test_results.json"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert finetune("killed", "--resume_from_checkpoint", "auto") == 0
    assert weights("killed") == before


def test_a_classifier_of_other_labels_starts_anew(model: Path, network: Path, tmp_path: Path) -> None:
    loaded = tkre_hf.PFHINForNodeClassification.from_pretrained(model, num_labels=3)
    for labels, kept in ((["g0", "g1", "g2"], True), (["g0", "g2", "g1"], False), (["x", "y"], False)):
        loaded.save_pretrained(tmp_path / "mine")
        saved = load_model(tmp_path / "mine", tkre_hf.PFHINForNodeClassification, id2label={0: "g0", 1: "g1", 2: "g2"})
        saved.save_pretrained(tmp_path / "mine")
        id2label = dict(enumerate(labels))
        found = load_model(
            tmp_path / "mine", tkre_hf.PFHINForNodeClassification, num_labels=len(labels), id2label=id2label
        )
        assert found.classifier.weight.shape[0] == len(labels)
        same = found.classifier.weight.shape == saved.classifier.weight.shape and torch.equal(
            found.classifier.weight, saved.classifier.weight
        )
        assert same == kept and found.config.id2label == id2label


@pytest.mark.parametrize("task", ["classification", "links"])
def test_fine_tuning(task: str, model: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = runpy.run_path(str(RECIPES / "finetune_pfhin.py"))["main"]
    argv = ["--model", str(model), "--network", str(network), "--output_dir", str(tmp_path / "out"), "--task", task]
    argv += ["--num_train_epochs", "6", "--use_cpu", "--disable_tqdm", "true"]
    if task == "links":
        argv += ["--valid_links", links(network)[0], "--test_links", links(network)[1], "--max_steps", "10"]
    main(argv)
    scores = json.loads((tmp_path / "out" / "test_results.json").read_text())
    expected = {"classification": {"macro_f1", "micro_f1", "val_macro_f1", "val_micro_f1"}}
    assert set(scores) == expected.get(task, {"link_auc", "link_accuracy"})
    card = ModelCard.load(tmp_path / "out" / "README.md")
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == {key: round(value, 3) for key, value in scores.items() if not key.startswith("val_")}
    (code,) = re.findall(r"^```python\n(.*?)^```$", card.text, re.S | re.M)
    # The checkpoint alone, wherever it is taken to, has all that its card's code reads.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").rename(tmp_path / "elsewhere" / "out")
    monkeypatch.chdir(tmp_path / "elsewhere")
    exec(code, {})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere" / "out").rename(tmp_path / "out")
    name = {"classification": "PFHINForNodeClassification", "links": "PFHINForLinkPrediction"}[task]
    again = getattr(tkre_hf, name).from_pretrained(tmp_path / "out")
    if task == "classification":
        assert again.config.id2label == {0: "g0", 1: "g1", 2: "g2"}
    # Its embeddings are of what it has learned: no head that it lacks is drawn anew for them.
    files = [tmp_path / name / "embeddings.parquet" for name in ("first", "second")]
    for file in files:
        assert tkre(["hin", "embed", "--model", str(tmp_path / "out"), "--output_dir", str(file.parent)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    # What it was fine-tuned for stays told beside what is measured later.
    assert tkre(["hin", "evaluate", "--model", str(tmp_path / "out"), "--network", str(network)]) == 0
    assert tkre(["card", str(tmp_path / "out")]) == 0
    told = {result.metric_name for result in ModelCard.load(tmp_path / "out" / "README.md").data.eval_results}
    assert {f"{key}, test" for key in expected.get(task, {"link_auc"}) if "val" not in key} <= told
    assert "nmi, few" in told


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["hin"], "usage: tkre hin"),
        (["hin", "dance"], "unknown action 'dance'"),
        (["hin", "pretrain", "--network", "nowhere", "--output_dir", "{out}"], "nowhere holds neither nodes.csv"),
        (["hin", "pretrain", "--network", "{net}", "--output_dir", "{model}"], "holds an earlier run's work"),
        (
            ["hin", "pretrain", "--network", "{net}", "--output_dir", "{out}", "--init", "magic"],
            "expected random, svd",
        ),
        (["hin", "pretrain", "--network", "{net}", "--output_dir", "{out}", "--rank", "fame"], "centrality or degree"),
        (["hin", "pretrain", "--network", "{net}", "--output_dir", "{out}", "--restart", "2"], "restart must lie in"),
        (
            ["hin", "pretrain", "--network", "{net}", "--output_dir", "{out}", "--drop_edge_types", "x"],
            "unknown edge type 'x'",
        ),
        (
            ["hin", "pretrain", "--network", "{net}", "--output_dir", "{out}", "--ids", "false", "--init", "svd"],
            "with ids: false there are none",
        ),
        (["hin", "embed", "--model", "nowhere"], "nowhere holds no PF-HIN model"),
        (["hin", "embed", "--model", "{model}", "--num_walks", "0"], "num_walks is 0: expected at least 1"),
        ([*FINETUNE, "--num_walks", "0"], "num_walks is 0: expected at least 1"),
        ([*FINETUNE[:-1], "{model}"], "output_dir is the model's own folder"),
        ([*FINETUNE, "--dataloader_drop_last", "true"], "dataloader_drop_last is True: leave it out"),
        ([*FINETUNE, *LINKS, "--label_smoothing_factor", "0.1"], "label_smoothing_factor is 0.1: leave it out"),
        ([*FINETUNE, *LINKS, "--valid_links", "{true}"], "links_true.csv has no false links (label 0)"),
        (
            ["hin", "pretrain", "--network", "{net}", "--output_dir", "{out}", "--label_smoothing_factor", "0.1"],
            "label_smoothing_factor is 0.1: leave it out",
        ),
        (["hin", "hold-out", "--network", "{net}", "--output_dir", "{out}", "--seed", "-1"], "seed is -1: expected"),
        (["hin", "embed", "--model", "ada/net"], "ada/net is no folder here, and on the Hub nothing is written"),
        (["hin", "evaluate", "--model", "{model}"], "say what to measure on: --network with labels and splits"),
        (["hin", "evaluate", "--model", "{model}", "--test_links", "x"], "links need both files"),
        (["hin", "evaluate", "--model", "{model}", "--network", "{net}", "--scheme", "x"], "choose of few"),
        (["hin", "similar", "--model", "{net}", "--node", "n1"], "holds no embeddings.parquet"),
        ([*FINETUNE, "--scheme", "x"], "no scheme of splits 'x': choose of few"),
        ([*FINETUNE, "--task", "links"], "needs valid_links and test_links"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    argv: list[str], message: str, model: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    true = tmp_path / "links_true.csv"
    lines = (network / "links_valid.csv").read_text().splitlines()
    true.write_text("\n".join(line for line in lines if not line.endswith(",0")) + "\n")
    words = [word.format(net=network, model=model, out=tmp_path / "out", true=true) for word in argv]
    words += ["--use_cpu"] if words[1:2] in (["pretrain"], ["finetune"]) else []
    assert tkre(words) == 2
    output = capsys.readouterr()
    assert message in output.err + output.out and "Traceback" not in output.err


def test_links_that_were_seen_are_not_asked(network: Path, tmp_path: Path) -> None:
    argv = ["hin", "pretrain", "--network", str(network), "--output_dir", str(tmp_path / "all"), "--max_steps", "1"]
    assert tkre([*argv, *TINY, "--per_device_train_batch_size", "16"]) == 0
    argv = ["hin", "finetune", "--model", str(tmp_path / "all"), "--network", str(network), "--task", "links"]
    argv += ["--valid_links", links(network)[0], "--test_links", links(network)[1], "--use_cpu"]
    with pytest.raises(TkreError, match="holds links that are asked"):
        tkre(["--debug", *argv, "--output_dir", str(tmp_path / "out")])
    argv = ["hin", "evaluate", "--model", str(tmp_path / "all")]
    argv += ["--valid_links", links(network)[0], "--test_links", links(network)[1]]
    with pytest.raises(
        TkreError, match=r"asked for, 24 of 24, such as n\d+ \w+ n\d+: pre-train it with --hold_out_links"
    ):
        tkre(["--debug", *argv])
    assert not (tmp_path / "all" / "results.json").exists()


def test_a_user_measures_a_checkpoint_on_a_network_of_their_own(
    model: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "mine"))
    argv = ["hin", "evaluate", "--model", str(folder)]
    valid, test = links(network)
    asked = ["--valid_links", valid, "--test_links", test, "--size", "8", "--epochs", "4"]
    assert tkre([*argv, "--network", str(network), "--scheme", "few", *asked]) == 0
    printed = capsys.readouterr().out
    rows = {(row.benchmark, row.setting): row for row in read_rows(folder / "results.json")}
    nodes = ("macro_f1", "micro_f1", "nmi", "ari", "precision_at_10", "similarity_auc")
    ranks = ("mrr", "hits_1", "hits_3", "hits_10", "link_auc", "link_accuracy")
    assert set(rows) == {
        *((network.name, f"few {metric}") for metric in nodes),
        *((f"{network.name}_links", metric) for metric in ranks),
    }
    assert {row.n for row in rows.values()} == {30, 12} and {row.system for row in rows.values()} == {
        "PFHINForPreTraining"
    }
    assert all(str(tmp_path) not in row.command and row.seeds == [42] for row in rows.values())
    assert all(f"{row.value:.1f}" in printed for row in rows.values()) and f"tkre card {folder}" in printed

    # The figures are those of the embeddings that it writes, and of the scorer of `tkre hin links`.
    assert tkre(["hin", "embed", "--model", str(folder)]) == 0
    tables = read_hin(network)
    expected = frozen_scores(tkre_hf.EmbeddingTable(folder).vectors, tables, "few")
    assert {metric: rows[network.name, f"few {metric}"].value for metric in nodes} == pytest.approx(
        {metric: expected[metric] for metric in nodes}, abs=1e-2
    )
    (weight,) = re.findall(r"tkre hin links --weight (\S+)", printed)
    graph, *_ = load_graph(folder)
    own, on_top, _ = link_scorers(str(folder), graph, 8, 4)
    parts = [read_links(path, tables) for path in (valid, test)]
    mixed = MixedScorer(own, on_top, float(weight))
    assert scorer_figures(mixed, graph, *parts)["mrr"] == pytest.approx(
        rows[f"{network.name}_links", "mrr"].value, abs=1e-3
    )

    # The card has them, and says how to measure one that has none.
    assert (
        "`tkre hin evaluate --model FOLDER --network NETWORK` measures it" in ModelCard.load(folder / "README.md").text
    )
    assert tkre(["card", str(folder)]) == 0
    card = ModelCard.load(folder / "README.md")
    assert {(result.dataset_name, result.metric_type) for result in card.data.eval_results} == {
        (benchmark, row.metric) for (benchmark, _), row in rows.items()
    }
    assert "12 rows for each figure" in card.text and "30 rows for each figure" in card.text


def test_scorers_are_of_one_checkpoint(model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    weights = load_file(other / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    graph, *_ = load_graph(model)
    found = [link_scorers(str(folder), graph, 4, 1, output_dir=str(tmp_path / "out"))[2] for folder in (model, other)]
    assert not np.allclose(*found)


def test_figures_go_by_the_name_that_the_model_has_there(
    model: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "mine"))
    row = Row("codex_m", "PF-HIN", "few40 macro_f1", "macro_f1", 70.2)
    write_rows(folder / "results.json", [row])
    monkeypatch.chdir(network)
    assert tkre(["hin", "evaluate", "--model", str(folder), "--network", ".", "--scheme", "few"]) == 0
    rows = read_rows(folder / "results.json")
    assert {row.system for row in rows} == {"PF-HIN"} and {row.benchmark for row in rows} == {"codex_m", network.name}
    assert tkre(["card", str(folder)]) == 0


def test_links_that_are_all_true_are_ranked_and_not_judged(model: Path, network: Path, tmp_path: Path) -> None:
    files = []
    for path in links(network):
        header, *lines = Path(path).read_text().splitlines()
        files.append(tmp_path / Path(path).name)
        files[-1].write_text("\n".join([header, *(line for line in lines if line.endswith(",1"))]) + "\n")
    argv = ["hin", "evaluate", "--model", str(model), "--output_dir", str(tmp_path / "out"), "--size", "4"]
    argv += ["--epochs", "1", "--valid_links", str(files[0]), "--test_links", str(files[1])]
    assert tkre(argv) == 0
    assert [row.metric for row in read_rows(tmp_path / "out" / "results.json")] == [
        "mrr",
        "hits_1",
        "hits_3",
        "hits_10",
    ]
    files[1].write_text("src,dst,edge_type,label\nn1,n2,knows,0\n")
    with pytest.raises(TkreError, match="has no link of the label 1"):
        tkre(["--debug", *argv])


@pytest.mark.parametrize("name", ["size", "epochs", "states_epochs"])
def test_a_scorer_of_links_has_a_size_and_passes(
    name: str, model: Path, network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["links", "--node", "n1"], ["evaluate", "--network", str(network)]):
        assert tkre(["hin", words[0], "--model", str(model), *words[1:], f"--{name}", "0"]) == 2
        assert f"{name} is 0: expected at least 1" in capsys.readouterr().err


def test_splits_have_labels(network: Path) -> None:
    tables = make_tables()
    assert set(split_of(tables, None)) == {"train", "val", "test"}
    tables.labels[tables.splits["few"]["test"][0]] = -1
    with pytest.raises(TkreError, match="of test has no label"):
        split_of(tables, "few")
    del tables.splits["few"]["val"]
    with pytest.raises(TkreError, match="expected train, val and test"):
        split_of(tables, "few")


def test_drawn_splits_are_apart_and_even() -> None:
    tables: HINTables = make_tables(300)
    draw_split(tables, 1)
    parts = split_of(tables, "few40")
    assert [len(parts[name]) for name in ("train", "val", "test")] == [120, 120, 60]
    assert len(np.unique(np.concatenate(list(parts.values())))) == 300
    assert np.bincount(tables.labels[parts["train"]]).tolist() == [40, 40, 40]
    with pytest.raises(TkreError, match="more than 80 are needed"):
        draw_split(make_tables(60), 0)


def test_everything_is_measured_and_written(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "tiny.yaml"
    pairs = [TINY[i : i + 2] for i in range(0, 14, 2)]
    recipe.write_text("".join(f"{key[2:]}: {value}\n" for key, value in pairs) + "per_device_train_batch_size: 16\n")
    parts = {"drop": ("lives",), "scheme": "few", "node_type": "person", "links": "files"}
    fields: dict[str, Any] = {"network": network.name, **parts}
    monkeypatch.setitem(BENCHMARKS, "codex_s", type(BENCHMARKS["codex_s"])(**fields))
    output = tmp_path / "pfhin.json"
    argv = ["--data_dir", str(network.parent), "--benchmarks", "codex_s", "--seeds", "0", "1", "--max_steps", "2"]
    argv += ["--work_dir", str(tmp_path / "work"), "--output", str(output), "--recipe", str(recipe), "--systems"]
    main = runpy.run_path(str(RECIPES / "reproduce_pfhin.py"))["main"]
    counts = "edge-type counts + LR"
    main([*argv, "label propagation", "meta-paths + LR", counts, "PF-HIN", "PF-HIN, no ids", "--tasks", "nodes"])
    rows = {(row.system, row.setting): row for row in read_rows(output)}
    own = ["label propagation", "meta-paths + LR", counts, "PF-HIN", "PF-HIN, no ids"]
    assert {system for system, _ in rows} == set(own)
    row = rows["PF-HIN", "few40 macro_f1"]
    assert (
        row.sd is not None
        and row.seeds == [0, 1]
        and row.n == 30
        and row.minutes is not None
        and "reproduce_pfhin" not in row.source
    )
    main([*argv, "link heuristics + LR", "PF-HIN", "--tasks", "links", "--seeds", "0"])
    rows = {(row.system, row.setting): row for row in read_rows(output)}
    assert {"mrr", "hits_10", "link_auc", "link_accuracy"} <= {s for system, s in rows if system == "PF-HIN"}
    assert rows["ComplEx (published)", "mrr"].published and rows["ComplEx (published)", "mrr"].value == 46.5
    assert ("link heuristics + LR", "mrr") not in rows and ("link heuristics + LR", "link_auc") in rows
    assert "## codex_s" in output.with_suffix(".md").read_text()
    # Links that are drawn by seed are in none of the graphs they are asked of.
    monkeypatch.setitem(BENCHMARKS, "openflights", type(BENCHMARKS["codex_s"])(**{**fields, "links": "drawn"}))
    main([*argv, "PF-HIN", "--tasks", "links", "--benchmarks", "openflights"])
    rows = {(row.benchmark, row.system, row.setting): row for row in read_rows(output)}
    assert {"mrr", "link_auc", "weight_of_states"} <= {s for b, _, s in rows if b == "openflights"}
    work, files = tmp_path / "work" / "openflights-links", []
    for seed in ("seed0", "seed1"):
        graph, tables = load_graph(work / "PF-HIN" / seed)[0], read_hin(network)
        known = set(zip(*graph.triples().T.tolist(), strict=True))
        for path in sorted((work / "drawn" / seed).glob("links_*.csv")):
            held_out = read_links(path, tables)
            true = set(zip(*held_out.triples[held_out.label == 1].T.tolist(), strict=True))
            assert true and not true & known
            files.append(path.read_text())
    assert len(set(files)) == 4
    # What there is no figure of is said, and no row is written.
    capsys.readouterr()
    main([*argv, "DeepWalk", "PF-HIN, ids alone", "--tasks", "links"])
    told = capsys.readouterr().out
    assert "DeepWalk: no links of codex_s" in told and "PF-HIN, ids alone: no links of codex_s" in told
    with pytest.raises(TkreError, match="unknown systems PF-GIN: choose of label propagation"):
        main([*argv, "PF-GIN"])
