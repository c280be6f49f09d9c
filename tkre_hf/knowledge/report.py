"""What a run accepted and refused, by reason and relation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tkre_hf.knowledge.journal import write_atomically
from tkre_hf.knowledge.validate import REASONS


@dataclass
class RunReport:
    """The outcome of a run.

    Attributes:
        reasons: How many candidates of each (relation, reason); the reason of accepted ones is ``accepted``.
        quotas: How many rows each relation was to have.
        failures: Requests without an answer, and why.
        stopped: Why the run ended early, or "".
        unjudged: Answers that are kept and will be judged when the run goes on.
        requests: Requests sent by this run, repetitions included. ``tokens`` likewise, as counted or estimated.
        notes: What was derived for want of a schema.
    """

    reasons: Mapping[tuple[str, str], int]
    quotas: Mapping[str, int]
    failures: Sequence[str] = ()
    stopped: str = ""
    unjudged: int = 0
    requests: int = 0
    tokens: int = 0
    notes: Sequence[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many rows there are in ``records.jsonl``."""
        return self.by_reason()["accepted"]

    @property
    def unfilled(self) -> dict[str, int]:
        """How many rows each relation is short of its quota."""
        short = {
            relation: quota - self.reasons.get((relation, "accepted"), 0) for relation, quota in self.quotas.items()
        }
        return {relation: missing for relation, missing in short.items() if missing > 0}

    def by_reason(self) -> Counter[str]:
        """How many candidates of each reason, over all relations."""
        counts: Counter[str] = Counter()
        for (_, reason), count in self.reasons.items():
            counts[reason] += count
        return counts

    def to_dict(self) -> dict[str, Any]:
        """As JSON: counts by relation and reason, and the rest as it is."""
        table: dict[str, dict[str, int]] = {}
        for (relation, reason), count in sorted(self.reasons.items()):
            table.setdefault(relation, {})[reason] = count
        return {
            "accepted": self.accepted,
            "rejected": sum(self.reasons.values()) - self.accepted,
            "by_reason": dict(self.by_reason().most_common()),
            "by_relation": table,
            "unfilled": self.unfilled,
            "failures": list(self.failures),
            "stopped": self.stopped,
            "unjudged": self.unjudged,
            "requests": self.requests,
            "tokens": self.tokens,
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """A table of relations and reasons, and what went wrong."""
        counts = self.by_reason()
        columns = ["accepted", *(reason for reason in REASONS if counts[reason])]
        relations = sorted({*self.quotas, *(relation for relation, _ in self.reasons)})
        lines = ["| relation | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
        for relation in relations:
            cells = [str(self.reasons.get((relation, column), 0)) for column in columns]
            lines.append(f"| {relation} | " + " | ".join(cells) + " |")
        lines.append("| **all** | " + " | ".join(str(counts[column]) for column in columns) + " |")
        lines += ["", *(f"- {reason}: {REASONS[reason]}" for reason in columns[1:])]
        for relation, missing in self.unfilled.items():
            lines.append(f"- {relation} is {missing} short of its {self.quotas[relation]}")
        lines += [f"- no answer: {failure}" for failure in self.failures]
        if self.stopped:
            lines.append(f"- stopped: {self.stopped}")
        # It is also printed, and a server's own words may hold what no terminal can.
        return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace").decode()

    def write(self, folder: Path) -> None:
        """Writes ``report.json`` and ``report.md``."""
        write_atomically(folder / "report.json", json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")
        write_atomically(folder / "report.md", self.to_markdown())
