"""Transfer between networks: nothing that is tested was seen, and both start from the same labels."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from tkre_hf.data.hin import read_hin, read_links, write_hin
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.report import read_rows
from tkre_hf.hin_systems import BENCHMARKS
from tkre_hf.hin_training import NetworkArguments, load_graph, load_network
from tkre_hf.hin_transfer import SYSTEMS, TransferArguments, fewer, same_edges, write_held_out

from .pfhin.conftest import make_tables
from .test_hin import RECIPES, TINY


def test_fewer_labels_are_of_the_same_split() -> None:
    tables = make_tables(90)
    parts = tables.splits["few"]
    some = fewer(parts, tables.labels, 4, 0)
    assert np.isin(some["train"], parts["train"]).all()
    assert np.bincount(tables.labels[some["train"]]).tolist() == [4, 4, 4]
    assert some["val"] is parts["val"] and some["test"] is parts["test"]
    assert not np.array_equal(fewer(parts, tables.labels, 4, 1)["train"], some["train"])
    # Of a class with fewer nodes there are as many as there are.
    np.testing.assert_array_equal(fewer(parts, tables.labels, 1000, 0)["train"], parts["train"])


def make_data(folder: Path) -> None:
    """A source with the target's nodes in another order, named alike; links of the target stand in both."""
    target, source = make_tables(300), make_tables(300)
    order = np.random.default_rng(0).permutation(len(source.node_ids))
    place = np.argsort(order)
    target.names = [f"Q{i}" for i in range(len(order))]
    source.names = [f"Q{i}:said otherwise" for i in order]
    source.node_ids = [f"m{i}" for i in range(len(order))]
    source.node_type, source.labels = source.node_type[order], source.labels[order]
    source.src, source.dst, source.splits = place[source.src], place[source.dst], {}
    write_hin(source, folder / "codex_m")
    write_hin(target, folder / "codex_s")
    write_hin(target, folder / "openflights")
    for part, edges in (("valid", range(0, 30)), ("test", range(30, 60))):
        lines = ["src,dst,edge_type,label", "n0,n1,lives,0"]
        lines += [f"n{target.src[i]},n{target.dst[i]},{target.edge_types[target.edge_type[i]]},1" for i in edges]
        (folder / "codex_s" / f"links_{part}.csv").write_text("\n".join(lines) + "\n")


def test_everything_is_transferred_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    make_data(data)
    kind = type(BENCHMARKS["codex_m"])
    monkeypatch.setitem(BENCHMARKS, "codex_m", kind("codex_m", ("lives",), "", "person"))
    monkeypatch.setitem(BENCHMARKS, "codex_s", kind("codex_s", ("lives",), "few", "person"))
    monkeypatch.setitem(BENCHMARKS, "openflights", kind("openflights", ("in",), "", "person"))
    recipe, tuning = tmp_path / "recipe.yaml", tmp_path / "tuning.yaml"
    pairs = [TINY[i : i + 2] for i in range(0, 14, 2)]
    recipe.write_text("".join(f"{key[2:]}: {value}\n" for key, value in pairs) + "profile: true\nbf16: false\n")
    tuning.write_text("num_train_epochs: 2\nper_device_train_batch_size: 8\n")
    output = tmp_path / "transfer.json"
    argv = ["--data_dir", str(data), "--work_dir", str(tmp_path / "work"), "--output", str(output), "--max_steps", "2"]
    argv += ["--recipe", str(recipe), "--finetuning", str(tuning), "--per_class", "2", "5", "--seeds", "0"]
    main = runpy.run_path(str(RECIPES / "transfer_pfhin.py"))["main"]
    main(argv)
    rows = {(row.benchmark, row.system, row.setting): row for row in read_rows(output)}
    assert {(target, system) for target, system, _ in rows} == {
        (target, system) for target in ("codex_s", "openflights") for system in SYSTEMS.values()
    }
    assert {setting for *_, setting in rows} == {f"few{n} {m}_f1" for n in (2, 5) for m in ("macro", "micro")}
    # What the target tests is in no graph that the source was trained on.
    graph, *_ = load_graph(tmp_path / "work" / "source" / "seed0")
    names = [name.partition(":")[0] for name in graph.names]
    edges = {(names[s], graph.edge_types[k], names[d]) for s, d, k in zip(*graph.edges(), strict=True)}
    target = read_hin(data / "codex_s")
    for part in ("valid", "test"):
        links = read_links(data / "codex_s" / f"links_{part}.csv", target)
        asked = zip(links.src, links.edge_type, links.dst, links.label, strict=True)
        true = {(target.names[s], target.edge_types[k], target.names[d]) for s, k, d, label in asked if label}
        assert true and not true & edges
    whole = load_network(NetworkArguments(str(data / "codex_m"), ["lives"]))[1]
    assert graph.num_edges < whole.num_edges
    for wrong, message in ((["--targets", "x"], "unknown targets x"), (["--per_class", "41"], "from 1 to 40")):
        with pytest.raises(TkreError, match=message):
            main([*argv, *wrong])


@pytest.mark.skipif("TKRE_DATA_DIR" not in os.environ, reason="TKRE_DATA_DIR names no folder of real data")
def test_no_edge_that_codex_s_tests_is_left_in_codex_m(tmp_path: Path) -> None:
    data = Path(os.environ["TKRE_DATA_DIR"]) / "hin"
    args = TransferArguments(str(data), work_dir=str(tmp_path))
    source, small = read_hin(data / "codex_m"), read_hin(data / "codex_s")
    asked = same_edges(small, [data / "codex_s" / f"links_{part}.csv" for part in ("valid", "test")], source)

    def standing(held_out: list[str]) -> int:
        _, graph = load_network(NetworkArguments(str(data / "codex_m"), hold_out_links=held_out))
        edges = set(zip(*(part.tolist() for part in graph.edges()), strict=True))
        return len(edges & set(asked))

    # Two are of an edge type that codex_m hasn't got; most of the others stand in it.
    assert len(asked) == 1827 + 1828 - 2 and standing([]) > 3000
    assert standing([str(write_held_out(args))]) == 0
