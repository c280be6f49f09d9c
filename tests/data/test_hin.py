"""Typed networks as tables: what is written is read again, and what is wrong is told with file, row and field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tkre_hf.data.hin import EdgeTypeInfo, HINTables, read_hin, read_links, write_hin
from tkre_hf.errors import InvalidRowError, TkreError

FILES = {
    "nodes.csv": 'node_id,node_type,name\na,person,Ada\nb,person,"Bo, the 2nd"\nk,city,Kiel\n',
    "edges.csv": "src,dst,edge_type\na,k,P19\nb,k,P19\na,b,P26\n",
    "labels.csv": "node_id,label\na,10\nb,2\n",
    "splits.csv": "scheme,part,node_id\nfew,train,b\nfew,test,a\nfull,train,a\n",
    "relations.csv": "edge_type,label,head_type,tail_type,count\nP26,spouse,person,person,1\n"
    "P19,born in,person,city,2\n",
    "links_test.csv": "src,dst,edge_type,label\nb,k,P19,1\na,k,P26,0\n",
}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the files above, some of them otherwise: ``write(**{"edges.csv": ...})``; ``None`` leaves one out."""

    def write(**files: str | None) -> Path:
        for name, text in {**FILES, **files}.items():
            if text is not None:
                (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_every_table_is_read(write: Write) -> None:
    tables = read_hin(write())
    assert tables.node_ids == ["a", "b", "k"] and tables.names == ["Ada", "Bo, the 2nd", "Kiel"]
    assert [tables.node_types[i] for i in tables.node_type] == ["person", "person", "city"]
    edges = [(tables.node_ids[s], tables.node_ids[d], tables.edge_types[e]) for s, d, e in edges_of(tables)]
    assert edges == [("a", "k", "P19"), ("b", "k", "P19"), ("a", "b", "P26")]
    # Labels that are whole numbers are ordered as such.
    assert tables.label_names == ["2", "10"] and tables.labels.tolist() == [1, 0, -1]
    assert {s: {p: v.tolist() for p, v in parts.items()} for s, parts in tables.splits.items()} == {
        "few": {"train": [1], "test": [0]},
        "full": {"train": [0]},
    }
    assert tables.relations["P19"] == EdgeTypeInfo("born in", "person", "city")
    links = read_links(Path(write()) / "links_test.csv", tables)
    assert links.label.tolist() == [1, 0] and links.src.tolist() == [1, 0] and len(links) == 2


def edges_of(tables: HINTables) -> list[tuple[int, int, int]]:
    return list(zip(tables.src.tolist(), tables.dst.tolist(), tables.edge_type.tolist(), strict=True))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("edges.csv", "src,dst,edge_type\na,k,P19\na,x,P19\n", "edges.csv, line 3, field 'dst': 'x' is no node id"),
        ("edges.csv", "src,dst,edge_type\nx,k,P19\n", "edges.csv, line 2, field 'src': 'x' is no node id"),
        ("edges.csv", "src,dst,edge_type\na,k,P9\n", "edges.csv, line 2, field 'edge_type': 'P9' is no known edge ty"),
        ("edges.csv", "src,dst,edge_type\na,k\n", "edges.csv, line 2: has 2 cells, expected 3: 'a,k'"),
        ("edges.csv", "src,dst,edge_type\na,k,P19\n\na,b,P26\n", "edges.csv, line 3, field 'src': is empty"),
        ("edges.csv", "src,dst\na,k\n", "edges.csv: has no column 'edge_type'; found src, dst"),
        ("edges.csv", "", "edges.csv: is empty; expected a header line"),
        ("edges.csv", "src,dst,edge_type,kind\na,k,P19,1\n", "unknown column 'kind'"),
        ("nodes.csv", "node_id,node_type\na,person\nb,person\na,city\n", "line 4, field 'node_id': 'a' was used bef"),
        ("nodes.csv", "node_id,node_type\na,person\nb,\n", "nodes.csv, line 3, field 'node_type': is empty"),
        ("nodes.csv", "node_id,node_type\n,person\n", "nodes.csv, line 2, field 'node_id': is empty"),
        (
            "nodes.csv",
            "node_id,node_type,feature\na,person,1\nb,person,x\nk,city,\n",
            "line 3, field 'feature'",
        ),
        ("nodes.csv", "node_id,node_type,feature\na,person,1\nb,person,inf\nk,city,\n", "line 3, field 'feature'"),
        ("nodes.csv", "node_id,node_type,feature\na,person,1\nb,person,1_0\n", "line 3, field 'feature': expected a"),
        ("edges.csv", "src,dst,edge_type,score\na,k,P19,.5\nb,k,P19,1_0\n", "line 3, field 'score': expected a fin"),
        (
            "nodes.csv",
            "node_id,node_type,feature_0,feature_1\na,person,1,\nk,city,,\n",
            "line 2, field 'feature_1': is empty, t",
        ),
        ("labels.csv", "node_id,label\na,1\na,2\n", "labels.csv, line 3, field 'node_id': 'a' was used before, in"),
        ("labels.csv", "node_id,label\nx,1\n", "labels.csv, line 2, field 'node_id': 'x' is no node id"),
        ("splits.csv", "scheme,part,node_id\nf,train,a\nf,test,a\n", "splits.csv, line 3, field 'node_id'"),
        ("relations.csv", "edge_type,label,head_type\nP19,in,town\n", "field 'head_type': 'town' is no known node t"),
    ],
)
def test_what_is_wrong_is_told_with_file_row_and_field(file: str, text: str, message: str, write: Write) -> None:
    with pytest.raises(TkreError) as caught:
        read_hin(write(**{file: text}))
    assert message in str(caught.value)


def test_numbers_may_be_padded_or_signed(write: Write) -> None:
    nodes = "node_id,node_type,feature\na,person, 0.5\nb,person,2 \nk,city, \n"
    edges = "src,dst,edge_type,score\na,k,P19,+0.5\nb,k,P19, 1e-1\na,b,P26,\n"
    tables = read_hin(write(**{"nodes.csv": nodes, "edges.csv": edges}))
    np.testing.assert_array_equal(tables.features, np.array([[0.5], [2], [np.nan]], dtype=np.float32))
    np.testing.assert_array_equal(tables.edge_scores, np.array([0.5, 0.1, np.nan], dtype=np.float32))


def test_a_link_is_true_or_not(write: Write) -> None:
    folder = write(**{"links_test.csv": "src,dst,edge_type,label\na,k,P19,1\na,k,P19,maybe\n"})
    with pytest.raises(InvalidRowError, match="line 3, field 'label': 'maybe' is no label of a link"):
        read_links(folder / "links_test.csv", read_hin(folder))


def test_types_may_be_given(write: Write) -> None:
    tables = read_hin(write(**{"relations.csv": None}), node_types=["city", "river", "person"])
    assert tables.node_type.tolist() == [2, 2, 0]
    with pytest.raises(InvalidRowError, match="line 2, field 'node_type': 'person' is no known node type"):
        read_hin(write(), node_types=["city"])


def test_a_table_is_there_once(write: Write) -> None:
    folder = write()
    write_hin(read_hin(folder), folder, "parquet")
    with pytest.raises(TkreError, match=r"holds nodes.csv and nodes.parquet"):
        read_hin(folder)
    for path in [*folder.glob("*.csv"), folder / "nodes.parquet"]:
        path.unlink()
    with pytest.raises(TkreError, match=r"holds neither nodes.csv nor nodes.parquet"):
        read_hin(folder)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_another_network_takes_a_folder_over(format: str, tmp_path: Path, write: Write) -> None:
    tables = read_hin(write())
    write_hin(tables, tmp_path / "other", format)
    (tmp_path / "other" / "links_test.csv").write_text(FILES["links_test.csv"])
    write_hin(replace(tables, labels=np.full(3, -1), splits={}, relations={}), tmp_path / "other", format)
    again = read_hin(tmp_path / "other")
    assert again.labels.tolist() == [-1, -1, -1] and not again.splits and not again.relations
    assert {path.name for path in (tmp_path / "other").iterdir()} == {
        f"nodes.{format}",
        f"edges.{format}",
        "links_test.csv",
    }


def test_a_null_is_told_by_its_row(tmp_path: Path, write: Write) -> None:
    write_hin(read_hin(write()), tmp_path / "other", "parquet")
    nulls = pa.table({"src": ["a", "b"], "dst": ["k", None], "edge_type": ["P19", "P19"]})
    pyarrow.parquet.write_table(nulls, tmp_path / "other" / "edges.parquet")
    with pytest.raises(InvalidRowError, match=r"edges.parquet, row 2, field 'dst': is null"):
        read_hin(tmp_path / "other")


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)


@st.composite
def networks(draw: st.DrawFn) -> HINTables:
    """Small networks with odd names, labels, splits, texts and features."""
    ids = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=6, unique=True))
    size = len(ids)
    types = sorted(draw(st.lists(st.sampled_from("pqr"), min_size=1, max_size=3, unique=True)))
    node_type = [*range(len(types)), *draw(st.lists(st.integers(0, len(types) - 1), min_size=size, max_size=size))]
    node_type = node_type[:size]
    types = types[: max(node_type) + 1]
    edges = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=8))
    columns = np.array(edges, dtype=np.int64).reshape(-1, 2)
    number = st.floats(-1e6, 1e6, width=32)
    features = draw(st.none() | st.lists(st.none() | st.tuples(number, number), min_size=size, max_size=size))
    tables = HINTables(
        node_ids=ids,
        node_types=types,
        node_type=np.array(node_type, dtype=np.int64),
        edge_types=["e"] if edges else [],
        src=columns[:, 0],
        dst=columns[:, 1],
        edge_type=np.zeros(len(edges), np.int64),
        names=draw(st.lists(TEXT, min_size=size, max_size=size)),
        texts=draw(st.none() | st.lists(TEXT, min_size=size, max_size=size)),
        features=None
        if features is None
        else np.array([(np.nan, np.nan) if row is None else row for row in features], dtype=np.float32),
    )
    if draw(st.booleans()):
        tables.labels[0], tables.label_names = 0, ["x"]
        tables.splits = {"s": {"train": np.array([0])}}
    return tables


@pytest.mark.parametrize("format", ["csv", "parquet"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables=networks())
def test_what_is_written_is_read_again(
    format: str, tables: HINTables, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("network")
    write_hin(tables, folder, format)
    again = read_hin(folder)
    for name, value in vars(tables).items():
        found = getattr(again, name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(found, value, err_msg=name)
        elif name == "splits":
            np.testing.assert_equal(found, value)
        else:
            assert found == value, name


def test_a_line_break_needs_parquet(write: Write, tmp_path: Path) -> None:
    tables = read_hin(write())
    tables.names[0] = "Ada\nLovelace"
    with pytest.raises(TkreError, match="has a line break; write Parquet instead"):
        write_hin(tables, tmp_path / "csv")
    write_hin(tables, tmp_path / "parquet", "parquet")
    assert read_hin(tmp_path / "parquet").names == tables.names
    with pytest.raises(TkreError, match="expected csv or parquet"):
        write_hin(tables, tmp_path, "json")


@pytest.mark.parametrize(
    ("name", "nodes", "edges", "labels"),
    [("codex_s", 2034, 32888, 960), ("codex_m", 17050, 185584, 9947), ("openflights", 7103, 64786, 3046)],
)
def test_real_networks(name: str, nodes: int, edges: int, labels: int, data_dir: Path) -> None:
    tables = read_hin(data_dir / "hin" / name)
    assert (tables.num_nodes, len(tables.src), int((tables.labels >= 0).sum())) == (nodes, edges, labels)
    for part in ("valid", "test") if name.startswith("codex") else ():
        links = read_links(data_dir / "hin" / name / f"links_{part}.csv", tables)
        assert links.label.mean() == 0.5
