"""Rows that come back as they went, a table that lines up, and intervals over seeds."""

from __future__ import annotations

import json
import math
import os
import re
import socket
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tkre_hf.errors import TkreError
from tkre_hf.evaluation.page import NOTES, save_rows, write_page
from tkre_hf.evaluation.report import Row, command, machine, mean_ci95, read_rows, table, versions, write_rows
from tkre_hf.places import published_command, published_text

RESULTS = Path(__file__).parents[2] / "docs" / "results"
ROW = Row("fewrel_val_wiki", "tkre", "5w1s", "accuracy", 86.25, 0.4, 10_000, [0, 1], "descriptions", 31.5)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
rows = st.builds(
    Row,
    benchmark=words,
    system=words,
    setting=words,
    metric=words,
    value=st.floats(allow_nan=False, allow_infinity=False),
    ci95=st.none() | st.floats(0, 10),
    n=st.none() | st.integers(0, 10**6),
    seeds=st.lists(st.integers(0, 99), max_size=3),
    knowledge=st.sampled_from(["none", "descriptions", "synthetic"]),
    minutes=st.none() | st.floats(0, 100),
    command=words,
    versions=st.dictionaries(words, words, max_size=2),
    published=st.booleans(),
    source=words,
)


@settings(deadline=None)
@given(found=st.lists(rows, max_size=5, unique_by=lambda row: row.key))
def test_rows_come_back_as_they_went(found: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rows") / "sub" / "rows.json"
    assert read_rows(path) == []
    assert write_rows(path, found) == found
    assert read_rows(path) == found
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.json"]


def test_a_row_takes_the_place_of_the_same_measurement(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    write_rows(path, [ROW, replace(ROW, setting="5w5s")])
    newer = replace(ROW, value=87.0, seeds=[7], machine="another")
    other = replace(ROW, knowledge="synthetic")
    assert write_rows(path, [newer, other]) == [newer, replace(ROW, setting="5w5s"), other]
    assert read_rows(path) == [newer, replace(ROW, setting="5w5s"), other]


def test_rows_added_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    many = [replace(ROW, system=f"system {i}") for i in range(24)]

    def add(row: Row) -> None:
        write_rows(path, [row])
        write_page(path)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, many))
    assert {row.system for row in read_rows(path)} == {row.system for row in many}
    assert all(row.system in path.with_suffix(".md").read_text() for row in many)
    assert {entry.name for entry in tmp_path.iterdir()} == {"rows.json", "rows.md"}


def test_a_replaced_measurement_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.json"
    save_rows(path, [replace(ROW, command="tkre evaluate --model a/stage2")])
    save_rows(path, [replace(ROW, command="tkre evaluate --model a/stage2", value=1.0)])
    assert not capsys.readouterr().err
    save_rows(path, [replace(ROW, command="tkre evaluate --model b/stage2")])
    assert "had 1 of these rows from another command" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["no JSON", '{"a": 1}', "[1]", '[{"benchmark": "x"}]'])
def test_what_holds_no_rows_is_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(TkreError, match="rows.json does not hold result rows"):
        write_rows(path, [ROW])
    assert path.read_text() == text


def test_a_field_of_a_later_version_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{**asdict(ROW), "later": 1}]))
    assert read_rows(path) == [ROW]


@given(st.lists(rows, min_size=1, max_size=6).filter(lambda found: not any("|" in c for r in found for c in r.key)))
def test_the_table_lines_up(found: list[Row]) -> None:
    found = [replace(row, system=f"s{i % 3}", setting=f"{i % 2 + 4}w1s") for i, row in enumerate(found)]
    lines = table(found).split("\n")
    bars = [[i for i, character in enumerate(line) if character == "|"] for line in lines]
    assert all(place == bars[0] for place in bars)
    assert len(lines) == 2 + len({(row.system, row.knowledge) for row in found})


def test_the_table_says_what_was_measured() -> None:
    found = [
        ROW,
        replace(ROW, setting="10w5s", value=70.0, ci95=None),
        replace(ROW, system="a longer name", knowledge="none", value=5.04, ci95=float("nan")),
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table(found).split("\n")]
    assert cells[0] == ["system", "knowledge", "5w1s", "10w5s"]
    assert cells[2:] == [
        ["tkre", "descriptions", "86.2 ± 0.4", "70.0"],
        ["a longer name", "none", "5.0", ""],
    ]
    assert [cell[-1] for cell in cells[1]] == ["-", "-", ":", ":"]


@pytest.mark.parametrize("count", range(2, 11))
def test_the_interval_over_seeds_is_students(count: int) -> None:
    values = [80.0 + 1.5 * i**1.3 for i in range(count)]
    mean, half = mean_ci95(values, 99.0)
    low, high = stats.t.interval(0.95, count - 1, statistics.fmean(values), stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-4)


def test_one_seed_keeps_its_own_interval() -> None:
    assert mean_ci95([81.5], 0.7) == (81.5, 0.7)


def test_equal_seeds_leave_no_doubt() -> None:
    assert mean_ci95([81.5, 81.5, 81.5], 0.7) == (81.5, 0.0)


def test_versions_name_what_counts() -> None:
    assert {"python", "torch", "transformers", "datasets"} <= set(versions())


def test_the_machine_is_described_and_not_named() -> None:
    assert "cores" in machine()
    assert socket.gethostname() not in machine()


@pytest.mark.parametrize(
    ("names", "said"), [([], ""), (["H100"], ", H100"), (["H100", "A10", "H100"], ", 2 H100, A10")]
)
def test_the_machines_gpus_are_named(names: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: names[i])
    cores = f"{os.cpu_count()} cores"
    assert re.fullmatch(rf"(, \d+ GiB)?{said}", machine().partition(cores)[2])


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("{here}/benchmarks/episodes.py", "python benchmarks/episodes.py --data 'my file'"),
        ("benchmarks/episodes.py", "python benchmarks/episodes.py --data 'my file'"),
        ("{here}/tkre_hf/cli.py", "tkre --data 'my file'"),
        ("/somewhere/bin/tkre", "tkre --data 'my file'"),
        ("/somewhere/else/measure.py", "python measure.py --data 'my file'"),
    ],
)
def test_the_command_names_no_folder_of_this_machine(
    script: str, wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [script.format(here=tmp_path), "--data", "my file"])
    assert command() == wanted


def test_the_command_names_no_absolute_path_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["--model", str(tmp_path / "my model"), f"--data={tmp_path}/rows.jsonl", "--output", "outputs/rows.json"]
    secrets = [
        "--hub_token",
        "S3",
        "--token=S3",
        "--api_key",
        "S3",
        "--hub-token",
        "S3",
        "--finetune.hub_token",
        "S3",
        "--stage1.token=S3",
        "--url",
        "http://me:S3@host/v1",
        "--finetune",
        '{"hub_token": "S3", "seed": 1}',
    ]
    kwargs = ["--kwargs", json.dumps({"path": str(tmp_path / "inner")}), "--data_dir", "DIR"]
    monkeypatch.setattr(sys, "argv", ["/bin/tkre", "evaluate", *given, *secrets, *kwargs])
    assert command() == (
        "tkre evaluate --model 'my model' --data=rows.jsonl --output outputs/rows.json --url http://host/v1 "
        """--finetune '{"hub_token": "…", "seed": 1}' --kwargs '{"path": "inner"}' --data_dir DIR"""
    )


def test_commands_and_sources_that_are_recorded_stay_as_they_are() -> None:
    recorded = [row for path in RESULTS.glob("*.json") for row in read_rows(path)]
    assert any("outputs/" in row.command for row in recorded) and any(row.source for row in recorded)
    for row in recorded:
        assert published_command(row.command) == row.command and published_text(row.source) == row.source


@pytest.mark.parametrize(
    ("field", "value"),
    [("value", "61.5"), ("value", None), ("value", True), ("ci95", "1"), ("seeds", 0), ("system", 1)],
)
def test_a_field_of_another_kind_is_named(field: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([{**asdict(ROW), field: value}]))
    with pytest.raises(TkreError, match=rf"rows\.json does not hold result rows \({field} is {value!r}, not a"):
        read_rows(path)


def test_the_page_shows_every_row_and_keeps_notes(tmp_path: Path) -> None:
    path = tmp_path / "fewrel.json"
    published = replace(ROW, system="BERT-PAIR", published=True, source="Gao et al. 2019, table 3", versions={})
    write_rows(path, [ROW, published])
    page = write_page(path, "FewRel")
    assert page == tmp_path / "fewrel.md"
    page.write_text(page.read_text() + "\nA person's note.\n")
    write_rows(path, [replace(ROW, benchmark="fewrel_val_pubmed", value=71.0)])
    text = write_page(path).read_text()
    assert text.startswith("# FewRel\n") and text.count(NOTES) == 1
    assert text.endswith("\nA person's note.\n")
    assert all(part in text for part in ("## fewrel_val_wiki", "## fewrel_val_pubmed", "86.2 ± 0.4", "71.0"))
    assert "- BERT-PAIR (descriptions) – published, Gao et al. 2019, table 3" in text


def test_the_page_tells_once_what_was_measured_alike(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    same = [replace(ROW, system=system, command="tkre evaluate") for system in ("a", "b")]
    write_rows(path, [*same, replace(same[0], setting="5w5s", command="tkre evaluate --seed 1")])
    text = write_page(path).read_text()
    assert "\n- a (descriptions): 5w1s; b (descriptions) – seeds [0, 1]; 31.5 minutes" in text
    write_rows(path, [replace(same[1], setting="5w5s", command="tkre evaluate --seed 1")])
    text = write_page(path).read_text()
    assert "\n- a (descriptions), b (descriptions): 5w1s – seeds" in text
    assert "\n- a (descriptions), b (descriptions): 5w5s – seeds" in text
    assert text.count("`tkre evaluate`") == 1 == text.count("`tkre evaluate --seed 1`")


def test_no_number_is_written_that_json_lacks(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    with pytest.raises(ValueError, match="JSON"):
        write_rows(path, [replace(ROW, ci95=math.nan)])
    assert not path.exists()
