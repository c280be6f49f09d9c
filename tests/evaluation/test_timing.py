"""Two ways of doing the same thing, timed in turn."""

from __future__ import annotations

import pytest

from tkre_hf.evaluation.report import Row
from tkre_hf.evaluation.timing import Comparison, compare


def test_both_are_timed_in_turn() -> None:
    calls: list[tuple[str, int]] = []

    def timed(name: str, rates: list[float], i: int) -> float:
        calls.append((name, i))
        return rates[i]

    found = compare(lambda i: timed("ours", [8.0, 6.0], i), lambda i: timed("plain", [2.0, 3.0], i), 2)
    assert calls == [("ours", 0), ("plain", 0), ("ours", 1), ("plain", 1)]
    assert found == Comparison((8.0, 6.0), (2.0, 3.0))
    assert found.ratios == (4.0, 2.0)


def test_rows_give_median_and_range() -> None:
    common = Row("speed", "", "stage 1", "sentences/s", 0.0, source="corpus")
    found = {row.system: row for row in Comparison((10.0, 30.0, 12.0), (5.0, 3.0, 4.0)).rows(common)}
    assert {system: row.value for system, row in found.items()} == pytest.approx(
        {
            "tkre_hf, median": 12.0,
            "tkre_hf, min": 10.0,
            "tkre_hf, max": 30.0,
            "straightforward, median": 4.0,
            "straightforward, min": 3.0,
            "straightforward, max": 5.0,
            "ratio, median": 3.0,
            "ratio, min": 2.0,
            "ratio, max": 10.0,
        }
    )
    assert {row.metric for name, row in found.items() if name.startswith("ratio")} == {"ratio"}
    assert {row.metric for name, row in found.items() if not name.startswith("ratio")} == {"sentences/s"}
    assert all(
        (row.benchmark, row.setting, row.n, row.source) == ("speed", "stage 1", 3, "corpus") for row in found.values()
    )
