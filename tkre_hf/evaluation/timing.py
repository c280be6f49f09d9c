"""Two ways of doing the same thing, timed in one run: what the benchmarks' figures are."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

from tqdm.auto import tqdm

from tkre_hf.evaluation.report import Row

OURS, PLAIN, RATIO = "tkre_hf", "straightforward", "ratio"


@dataclass(frozen=True)
class Comparison:
    """Rates of two ways of doing the same thing.

    Args:
        ours: Of each repetition, in things per second.
        plain: Likewise, of the straightforward way.
    """

    ours: tuple[float, ...]
    plain: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times as fast ours is, in each repetition."""
        return tuple(ours / plain for ours, plain in zip(self.ours, self.plain, strict=True))

    def rows(self, row: Row, plain: str = PLAIN) -> list[Row]:
        """Median, slowest and fastest repetition of each way, and of their ratio.

        Args:
            row: What they have in common: ``benchmark``, ``setting``, ``metric``, ``command`` …
            plain: What the rows call the other way.

        Returns:
            Nine rows.
        """
        rows = []
        for system, values in ((OURS, self.ours), (plain, self.plain), (RATIO, self.ratios)):
            metric = RATIO if system is RATIO else row.metric
            for which, value in (("median", statistics.median(values)), ("min", min(values)), ("max", max(values))):
                rows.append(
                    replace(
                        row, system=f"{system}, {which}", metric=metric, value=float(f"{value:.4g}"), n=len(values)
                    )
                )
        return rows


def compare(ours: Callable[[int], float], plain: Callable[[int], float], repetitions: int) -> Comparison:
    """Times both in turn, so that whatever else the machine does slows both.

    Args:
        ours: Does the work, given the repetition's number, and returns its rate; warms up by itself.
        plain: Likewise, the straightforward way.
        repetitions: Of both.
    """
    rates = [(ours(i), plain(i)) for i in tqdm(range(repetitions), desc="Repetitions", disable=None, leave=False)]
    return Comparison(tuple(rate for rate, _ in rates), tuple(rate for _, rate in rates))
