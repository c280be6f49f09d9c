"""Links held out of a network: true ones whole pairs at a time, false ones that no edge joins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tkre_hf.cli import main
from tkre_hf.data import draw_links, read_hin, read_links, write_hin, write_links
from tkre_hf.data.hin import HINTables
from tkre_hf.errors import TkreError

from ..pfhin.conftest import make_tables


def edges_of(tables: HINTables) -> set[tuple[int, int, int]]:
    return set(zip(tables.src.tolist(), tables.edge_type.tolist(), tables.dst.tolist(), strict=True))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0.02, 0.4))
def test_what_is_drawn_is_apart_and_false_links_are_no_edges(seed: int, share: float) -> None:
    tables = make_tables()
    edges = edges_of(tables)
    joined = {frozenset((src, dst)) for src, _, dst in edges}
    drawn = draw_links(tables, share, seed)
    pairs = []
    for links in drawn.values():
        rows = list(zip(*links.triples.T.tolist(), links.label.tolist(), strict=True))
        true = {row[:3] for row in rows if row[3]}
        pairs.append({frozenset((src, dst)) for src, _, dst in true})
        loops = sum(len(pair) == 1 for pair in joined)
        assert true <= edges and 0 <= round(share * len(joined)) - len(pairs[-1]) <= loops
        # All edges between the two, whatever their type and direction.
        assert true == {edge for edge in edges if frozenset((edge[0], edge[2])) in pairs[-1]}
        for src, kind, dst in (row[:3] for row in rows if not row[3]):
            assert src != dst and frozenset((src, dst)) not in joined
            # Each end stands at that end of an edge of this type somewhere.
            assert any(edge[:2] == (src, kind) for edge in edges) and any(edge[1:] == (kind, dst) for edge in edges)
    assert not pairs[0] & pairs[1]


def test_a_seed_draws_the_same_again_and_files_read_as_they_were(tmp_path: Path) -> None:
    tables = make_tables()
    write_hin(tables, tmp_path)
    tables = read_hin(tmp_path)
    first, again, other = (draw_links(tables, 0.1, seed)["test"] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.triples, again.triples)
    assert not np.array_equal(first.triples, other.triples)
    write_links(tables, first, tmp_path / "links.csv")
    found = read_links(tmp_path / "links.csv", tables)
    np.testing.assert_array_equal(found.triples, first.triples)
    np.testing.assert_array_equal(found.label, first.label)


def test_where_all_are_joined_there_is_no_false_link() -> None:
    src, dst = np.triu_indices(6, 1)
    zeros = np.zeros(len(src), int)
    tables = HINTables([f"n{i}" for i in range(6)], ["a"], zeros[:6], ["x"], src, dst, zeros)
    links = draw_links(tables, 0.2)["valid"]
    assert len(links) == links.label.sum() == 3


def test_degrees_do_not_tell_false_links() -> None:
    # Each of 400 things is in one of 40 places: one that lost its edge has none left.
    rng = np.random.default_rng(0)
    things, places = np.arange(400), 400 + rng.integers(0, 40, 400)
    kinds = np.zeros(440, int)
    tables = HINTables([f"n{i}" for i in range(440)], ["a"], kinds, ["in"], things, places, kinds[:400])
    drawn = draw_links(tables, 0.2)
    held_out = {row for links in drawn.values() for row in map(tuple, links.triples[links.label == 1])}
    left = np.bincount([src for src, kind, dst in edges_of(tables) - held_out], minlength=440)
    links = drawn["test"]
    assert (left[links.src] == 0).all() and (links.label == 0).sum() > 70


def test_a_node_s_edge_to_itself_is_not_asked_for() -> None:
    tables = make_tables()
    tables.src[:30] = tables.dst[:30]
    for links in draw_links(tables, 0.4).values():
        assert len(links) and (links.src != links.dst).all()


@pytest.mark.parametrize("share", [0.0, 0.5, -1.0])
def test_a_share_must_leave_something(share: float) -> None:
    with pytest.raises(TkreError, match="less than 0.5"):
        draw_links(make_tables(), share)


def test_a_share_of_few_edges_may_be_none_or_all() -> None:
    with pytest.raises(TkreError, match="is none: give a larger one"):
        draw_links(make_tables(), 1e-6)
    zeros = np.zeros(5, int)
    tables = HINTables(list("abcde"), ["a"], zeros, ["x"], np.arange(4), np.arange(1, 5), zeros[:4])
    with pytest.raises(TkreError, match="nothing is left to train on"):
        draw_links(tables, 0.4)


def test_the_command_writes_both_files_and_overwrites_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hin(make_tables(), tmp_path)
    argv = ["hin", "hold-out", "--network", str(tmp_path), "--share", "0.1"]
    assert main(argv) == 0
    told = capsys.readouterr().out
    tables = read_hin(tmp_path)
    for part in ("valid", "test"):
        links = read_links(tmp_path / f"links_{part}.csv", tables)
        assert f"links_{part}.csv: {links.label.sum()} links, {(links.label == 0).sum()} false ones" in told
    assert "--hold_out_links" in told
    before = (tmp_path / "links_valid.csv").read_bytes()
    assert main([*argv, "--seed", "1"]) == 2
    assert "links_valid.csv is there: move it away" in capsys.readouterr().err
    assert (tmp_path / "links_valid.csv").read_bytes() == before
    assert main([*argv, "--output_dir", str(tmp_path / "new" / "place")]) == 0
    assert (tmp_path / "new" / "place" / "links_test.csv").exists()
    write_hin(make_tables(), tmp_path / "parquet", "parquet")
    assert main(["hin", "hold-out", "--network", str(tmp_path / "parquet"), "--share", "0.1"]) == 0
    assert len(read_links(tmp_path / "parquet" / "links_test.parquet", tables))
