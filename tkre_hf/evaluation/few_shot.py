"""Few-shot evaluation of checkpoints, from folder to rows: behind ``tkre evaluate`` and ``recipes/evaluate_episodes.py``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tkre_hf.data import EpisodeDataset, load_records, load_relation_info
from tkre_hf.data.relations import complete_relation_info
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.episodes import (
    EpisodeReport,
    calibrate_na,
    embed_anchors,
    embed_records,
    evaluate_episodes,
    with_samples,
)
from tkre_hf.evaluation.report import Row, command, machine, mean_ci95, table, versions, write_rows
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords
from tkre_hf.training import bf16_supported, training_summary


@dataclass
class FewShotArguments:
    """What ``tkre evaluate`` measures."""

    model: list[str] = field(
        metadata={"help": "Checkpoints: folders or Hub ids. Several are training seeds of one system, and averaged."}
    )
    data: str = field(
        default="sample:validation",
        metadata={"help": "Sentences: a file, 'fewrel:wiki', 'fewrel:pubmed', or 'sample:validation'."},
    )
    split: str | None = field(default=None, metadata={"help": "Split of the data; 'validation' of FewRel by default."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder with the publisher's files."})
    relation_info: str | None = field(
        default=None, metadata={"help": "Relation names and descriptions: pid2name.json or JSON lines."}
    )
    settings: list[str] = field(
        default_factory=lambda: ["5w1s", "5w5s", "10w1s", "10w5s"],
        metadata={"help": "N-way K-shot settings, such as 5w1s; 0 shots are descriptions alone: 5w0s."},
    )
    na_rates: list[float] = field(
        default_factory=list,
        metadata={
            "help": "Fractions of queries with none of the above, measured beside the settings: 0 0.15 0.3 0.5."
        },
    )
    calibrate: str | None = field(
        default=None,
        metadata={"help": "Sentences of other relations, to set the threshold of none of the above on."},
    )
    descriptions: bool = field(default=True, metadata={"help": "Let names and descriptions be part of prototypes."})
    anchor_weight: float | None = field(
        default=None, metadata={"help": "How many supports a description counts for; the checkpoint's own by default."}
    )
    samples: str | None = field(
        default=None, metadata={"help": "Synthetic sentences of the evaluated relations, to be part of prototypes."}
    )
    sample_weight: float = field(default=1.0, metadata={"help": "The samples' weight beside the description."})
    num_episodes: int = field(default=10_000, metadata={"help": "Episodes of each setting."})
    seed: int = field(default=0, metadata={"help": "Of the episodes; all checkpoints get the same ones."})
    batch_size: int = field(default=64, metadata={"help": "Sentences encoded at once."})
    bf16: bool | None = field(default=None, metadata={"help": "Encode in bfloat16; where the processor has it."})
    output: str | None = field(default=None, metadata={"help": "JSON file that the rows are added to."})
    system: str | None = field(
        default=None, metadata={"help": "What the rows call the checkpoints; the first's name."}
    )
    benchmark: str | None = field(default=None, metadata={"help": "What the rows call the data; a name made of it."})
    confusion: int = field(default=0, metadata={"help": "List so many of the most confused relation pairs."})


def parse_setting(setting: str) -> tuple[int, int]:
    """``"5w1s"`` as (5, 1).

    Raises:
        TkreError: It isn't of that form.
    """
    match = re.fullmatch(r"(\d+)w(\d+)s", setting)
    if not match or int(match[1]) < 1:
        raise TkreError(f"the setting {setting!r} is not of the form 5w1s (5-way 1-shot; 5w0s is zero-shot)")
    return int(match[1]), int(match[2])


@dataclass
class EmbeddedRecords:
    """Records as one checkpoint sees them: vectors of the sentences, and of their relations' descriptions."""

    vectors: Tensor
    labels: list[str]
    anchors: Tensor | None


class FewShotEvaluator:
    """Embeds data with one model, and measures settings on it.

    Args:
        model: The model.
        processor: Its processor.
        args: What to measure.
    """

    def __init__(self, model: TKREModel, processor: TKREProcessor, args: FewShotArguments) -> None:
        self.args, self.model, self.processor = args, model, processor
        self.anchor_weight = self.model.config.anchor_weight if args.anchor_weight is None else args.anchor_weight
        self._own = self._embed(args.data, args.samples)
        self._others = self._embed(args.calibrate, None) if args.calibrate else None

    def _embed(self, source: str, samples: str | None) -> EmbeddedRecords:
        args = self.args
        # Sentences to calibrate on may be another file, or another split of the same publisher's.
        split = args.split if source == args.data else None
        records = load_records(source, split=split, data_dir=args.data_dir)
        labels = list(records["relation"])
        relations = sorted(set(labels))
        info_source = args.relation_info or _relation_info_source(source)
        info = load_relation_info(info_source, relations, data_dir=args.data_dir) if info_source else {}
        bf16 = bf16_supported() if args.bf16 is None else args.bf16
        autocast = torch.autocast(self.model.device.type, torch.bfloat16) if bf16 else nullcontext()
        with autocast:
            vectors = self._encode(records)
            anchors = None
            if args.descriptions:
                entries = complete_relation_info(relations, info).values()
                anchors = embed_anchors(self.model, self.processor, list(entries))
            if samples is not None:
                rows = load_records(samples).filter(lambda row: row["relation"] in relations)
                if not len(rows):
                    raise TkreError(f"{samples} has no sentence of the relations in {source}")
                anchors = anchors if anchors is not None else torch.zeros(len(relations), vectors.shape[1])
                numbers = [relations.index(label) for label in rows["relation"]]
                anchors = with_samples(anchors, self._encode(rows), numbers, args.sample_weight)
        return EmbeddedRecords(vectors, labels, anchors)

    def _encode(self, records: Sequence[dict]) -> Tensor:
        encoded = EncodedRecords(records, self.processor)
        if encoded.num_truncated:
            print(f"{encoded.num_truncated} of {len(encoded)} sentences were truncated", file=sys.stderr)
        return embed_records(self.model, self.processor, encoded, self.args.batch_size)

    def evaluate(self, setting: str, na_rate: float | None = None) -> EpisodeReport:
        """Accuracy in one setting; with ``na_rate`` none of the above is among the answers, even at a rate of 0."""
        n_way, k_shot = parse_setting(setting)
        args = self.args
        threshold = None
        if na_rate is not None:
            if self._others is None:
                raise TkreError("na_rates need --calibrate: sentences of other relations to set the threshold on")
            threshold = calibrate_na(
                self._others.vectors,
                self._others.labels,
                n_way,
                max(k_shot, 1),
                self._others.anchors,
                self.anchor_weight,
                seed=args.seed,
            )
        own = self._own
        # A zero-shot episode still needs a row for each relation to be drawn; its supports are not looked at.
        episodes = EpisodeDataset(own.labels, n_way, max(k_shot, 1), 1, na_rate or 0.0, args.num_episodes, args.seed)
        if k_shot == 0 and own.anchors is None:
            raise TkreError(f"{setting} is zero-shot: it needs descriptions")
        return evaluate_episodes(own.vectors, episodes, own.anchors, self.anchor_weight, threshold, k_shot == 0)


def load_model(name: str) -> TKREModel:
    """A checkpoint's encoder and space, on the accelerator if there is one.

    Raises:
        TkreError: There is no such folder or Hub id.
    """
    try:
        model = TKREModel.from_pretrained(name)
    except OSError as error:
        raise TkreError(f"the checkpoint {name} can't be loaded: {str(error).strip().splitlines()[0]}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def evaluate_few_shot(args: FewShotArguments) -> tuple[list[Row], dict[str, EpisodeReport]]:
    """Measures every setting with every checkpoint.

    Returns:
        A row for each setting, the mean over checkpoints; and the first checkpoint's report for each.
    """
    cases: list[tuple[str, float | None]] = [(setting, None) for setting in args.settings]
    cases += [(setting, rate) for setting in args.settings for rate in args.na_rates]
    names = [setting if rate is None else f"{setting} na{round(100 * rate)}" for setting, rate in cases]
    reports: dict[str, list[EpisodeReport]] = {name: [] for name in names}
    for model in args.model:
        evaluator = FewShotEvaluator(load_model(model), TKREProcessor.from_pretrained(model), args)
        for name, (setting, rate) in zip(names, cases):
            reports[name].append(evaluator.evaluate(setting, rate))
    summaries = [training_summary(model) for model in args.model]
    minutes = [summary.minutes for summary in summaries if summary is not None]
    knowledge = "descriptions" if args.descriptions else "none"
    if args.samples or any(summary is not None and summary.knowledge == "synthetic" for summary in summaries):
        knowledge = "synthetic"
    rows = []
    for name, found in reports.items():
        value, ci95 = mean_ci95([report.accuracy for report in found], found[0].ci95)
        rows.append(
            Row(
                benchmark=args.benchmark or re.sub(r"\W+", "_", Path(args.data).stem),
                system=args.system or Path(args.model[0]).name,
                setting=name,
                metric="accuracy",
                value=round(value, 2),
                ci95=round(ci95, 2),
                n=found[0].episodes,
                seeds=[summary.seed for summary in summaries if summary is not None],
                knowledge=knowledge,
                minutes=round(sum(minutes) / len(minutes), 1) if minutes else None,
                command=command(),
                versions=versions(),
                machine=machine(),
                source="; ".join(dict.fromkeys(summary.data for summary in summaries if summary is not None)),
            )
        )
    return rows, {name: found[0] for name, found in reports.items()}


def run(args: FewShotArguments) -> int:
    """Measures, prints a table, and writes the rows."""
    rows, reports = evaluate_few_shot(args)
    print(table(rows))
    if args.confusion:
        for name, report in reports.items():
            print(f"\nMost often confused, {name}:")
            for gold, found, share in report.most_confused(args.confusion):
                print(f"  {gold} taken for {found}: {100 * share:.1f}% of its queries")
    if args.output:
        write_rows(args.output, rows)
        print(f"\nWritten to {args.output}")
    return 0


def _relation_info_source(source: str) -> str | None:
    """Where a named corpus keeps its relations' names; a file of one's own has none unless given."""
    return source if source.split(":")[0] in ("fewrel", "sample") else None
