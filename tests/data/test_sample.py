from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from tkre_hf.data import load_relation_info, load_sample
from tkre_hf.data.sample import SAMPLE_DIR
from tkre_hf.data.sample.__main__ import build_sample
from tkre_hf.errors import TkreError


@pytest.mark.parametrize(("split", "relations", "rows"), [("train", 641, 6), ("validation", 16, 16)])
def test_the_bundled_corpus_is_whole(split: str, relations: int, rows: int) -> None:
    records = load_sample(split)
    counts = Counter(records["relation"][:])
    assert len(counts) == relations and set(counts.values()) == {rows}
    assert len(set(records["id"][:])) == len(records)
    for record in records:
        assert record["source"] == "scdg"
        for entity in (record["head"], record["tail"]):
            words = record["tokens"][entity["start"] : entity["end"]]
            assert "".join(words) == "".join(entity["name"].split())
    info = load_relation_info("sample", counts)
    assert all(entry.name and entry.description for entry in info.values())
    assert not any(entry.name == label for label, entry in info.items())


def test_no_relation_is_in_both_splits() -> None:
    assert not set(load_sample("train")["relation"][:]) & set(load_sample("validation")["relation"][:])


def test_a_split_that_is_not_there_says_which_are() -> None:
    with pytest.raises(TkreError, match="sample:train, sample:validation"):
        load_sample("test")


def test_the_bundled_files_are_a_fresh_build_s(data_dir: Path, tmp_path: Path) -> None:
    build_sample(data_dir, tmp_path)
    for path in sorted(tmp_path.iterdir()):
        bundled = (SAMPLE_DIR / path.name).read_bytes()
        # Another zlib may pack the same lines otherwise.
        unpack = gzip.decompress if path.suffix == ".gz" else bytes
        assert unpack(path.read_bytes()) == unpack(bundled), path.name
    assert len(list(tmp_path.iterdir())) == 3
