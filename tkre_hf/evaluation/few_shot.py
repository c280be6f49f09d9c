"""From checkpoints to rows of few-shot accuracy: behind ``tkre evaluate`` and ``recipes/evaluate_episodes.py``."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from transformers import PretrainedConfig

from tkre_hf.console import quiet_libraries
from tkre_hf.data import EpisodeDataset, load_records, load_relation_info, published_splits
from tkre_hf.data.relations import RelationInfo, complete_relation_info
from tkre_hf.errors import TkreError
from tkre_hf.evaluation.episodes import EpisodeReport, calibrate_na, evaluate_episodes, with_samples
from tkre_hf.evaluation.page import save_rows
from tkre_hf.evaluation.report import Row, command, machine, mean_ci95, table, versions
from tkre_hf.tkre.configuration_tkre import TKREConfig
from tkre_hf.tkre.embedding import embed_anchors, embed_records
from tkre_hf.tkre.modeling_parts import AnchorTrust
from tkre_hf.tkre.modeling_tkre import TKREModel
from tkre_hf.tkre.processing_tkre import TKREProcessor
from tkre_hf.tkre.sampling import EncodedRecords
from tkre_hf.tkre.training_args import bf16_supported
from tkre_hf.training_data import TrainingSummary, training_summary


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
    relations: list[str] = field(
        default_factory=list, metadata={"help": "Labels of the relations to measure on; all of the data by default."}
    )
    relation_info: str | None = field(
        default=None, metadata={"help": "Relation names and descriptions: YAML, pid2name.json or JSON lines."}
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
        metadata={
            "help": "Sentences of other relations, to set the threshold of none of the above on; those of relations "
            "that were trained on are left out."
        },
    )
    calibrate_model: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to set that threshold with, for models trained on all relations: one trained "
            "alike, but with some held out."
        },
    )
    descriptions: bool = field(default=True, metadata={"help": "Let names and descriptions be part of prototypes."})
    anchor_weight: float | None = field(
        default=None, metadata={"help": "How many supports a description counts for; the checkpoint's own by default."}
    )
    anchor_doubt: float | None = field(
        default=None,
        metadata={"help": "How fast it counts for less where supports contradict it; the checkpoint's by default."},
    )
    samples: list[str] = field(
        default_factory=list,
        metadata={"help": "Files of synthetic sentences of the evaluated relations, to be part of prototypes."},
    )
    sample_weight: float = field(default=3.0, metadata={"help": "The samples' weight beside the description."})
    num_episodes: int = field(default=10_000, metadata={"help": "Episodes of each setting."})
    seed: int = field(default=0, metadata={"help": "Of the episodes; all checkpoints get the same ones."})
    batch_size: int = field(default=64, metadata={"help": "Sentences, or descriptions, encoded at once."})
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
        trained: Relations that the model was trained on; a threshold set on them would be too high.
        others: Sentences to set the threshold on, where another model has embedded them (:meth:`calibration`).

    Raises:
        TkreError: The data are missing or wrong.
    """

    def __init__(
        self,
        model: TKREModel,
        processor: TKREProcessor,
        args: FewShotArguments,
        trained: Collection[str] = (),
        others: EmbeddedRecords | None = None,
    ) -> None:
        self.args, self.model, self.processor = args, model, processor
        config = model.config
        weight = config.anchor_weight if args.anchor_weight is None else args.anchor_weight
        doubt = config.anchor_doubt if args.anchor_doubt is None else args.anchor_doubt
        self.trust = AnchorTrust(weight, doubt, config.tau)
        split = args.split or ("validation" if args.data.startswith("fewrel:") else None)
        self._records = self._load(args.data, split)
        if args.relations:
            unknown = sorted(set(args.relations) - set(self._records["relation"]))
            if unknown:
                raise TkreError(f"relations names {unknown[0]!r}, which no sentence of {args.data} has")
            self._records = _of_relations(self._records, args.relations)
        self.others = self.calibration(trained) if others is None and args.calibrate is not None else others

    @cached_property
    def embedded(self) -> EmbeddedRecords:
        """The sentences evaluated, and their relations' anchors."""
        return self._embed(self.args.data, self._records, self.args.samples)

    def calibration(self, trained: Collection[str]) -> EmbeddedRecords:
        """The sentences of ``args.calibrate`` whose relations are neither trained on nor evaluated.

        Raises:
            TkreError: There is none.
        """
        args = self.args
        assert args.calibrate is not None
        records = self._load(args.calibrate, "train" if args.calibrate == "fewrel:wiki" else None)
        others = _of_relations(records, set(records["relation"]) - {*trained, *self.relations})
        if not len(others):
            raise TkreError(
                f"{args.calibrate} has no relation that is neither trained on nor evaluated to calibrate on: name "
                "another source, or train with --hold_out"
            )
        return self._embed(args.calibrate, others)

    @property
    def relations(self) -> frozenset[str]:
        """The labels evaluated."""
        return frozenset(self._records["relation"])

    def _load(self, source: str, split: str | None) -> Dataset:
        return load_records(source, split=split, data_dir=_data_dir(self.args, source))

    def _embed(self, source: str, records: Dataset, samples: Sequence[str] = ()) -> EmbeddedRecords:
        args = self.args
        labels = list(records["relation"])
        relations = sorted(set(labels))
        with self._autocast():
            vectors = self._encode(records)
            anchors = None
            if args.descriptions:
                info = _relation_info(args, source, relations)
                anchors = embed_anchors(self.model, self.processor, list(info.values()), args.batch_size)
            if samples:
                rows = self._samples(samples, relations)
                anchors = anchors if anchors is not None else torch.zeros(len(relations), vectors.shape[1])
                numbers = [relations.index(label) for label in rows["relation"]]
                anchors = with_samples(anchors, self._encode(rows), numbers, args.sample_weight)
        return EmbeddedRecords(vectors, labels, anchors)

    def _samples(self, files: Sequence[str], relations: Sequence[str]) -> Dataset:
        rows = concatenate_datasets([_of_relations(load_records(name), relations) for name in files])
        if not len(rows):
            raise TkreError(f"{', '.join(files)} has no sentence of the relations in {self.args.data}")
        return rows

    def embed_samples(self, files: Sequence[str]) -> Tensor:
        """Vectors of synthetic sentences, ``(relations, sentences, dim)``: of each relation as many as all have.

        Raises:
            TkreError: A relation has none.
        """
        relations = sorted(self.relations)
        rows = self._samples(files, relations)
        labels = np.array(rows["relation"])
        places = [np.flatnonzero(labels == label) for label in relations]
        count = min(map(len, places))
        if not count:
            missing = next(label for label, place in zip(relations, places, strict=True) if not len(place))
            raise TkreError(f"{', '.join(files)} has no sentence of {missing!r}")
        with self._autocast():
            vectors = self._encode(rows.select(np.concatenate([place[:count] for place in places])))
        return vectors.unflatten(0, (len(relations), count))

    def _autocast(self) -> AbstractContextManager[object]:
        bf16 = bf16_supported() if self.args.bf16 is None else self.args.bf16
        return torch.autocast(self.model.device.type, torch.bfloat16) if bf16 else nullcontext()

    def _encode(self, records: Dataset) -> Tensor:
        try:
            encoded = EncodedRecords(records, self.processor)
        except ValueError as error:  # an entity that the processor can't mark, or that its window can't hold
            raise TkreError(str(error)) from error
        if encoded.num_truncated:
            print(f"{encoded.num_truncated} of {len(encoded)} sentences were truncated", file=sys.stderr)
        return embed_records(self.model, self.processor, encoded, self.args.batch_size)

    def evaluate(self, setting: str, na_rate: float | None = None) -> EpisodeReport:
        """Accuracy in one setting; with ``na_rate`` none of the above is among the answers, even at a rate of 0.

        Raises:
            TkreError: The setting is of no known form, asks for more relations or sentences than there are, or needs
                what wasn't given.
        """
        n_way, k_shot = parse_setting(setting)
        args, own = self.args, self.embedded
        if k_shot == 0 and own.anchors is None:
            raise TkreError(f"{setting} is zero-shot: it needs descriptions")
        threshold = self._na_threshold(n_way, k_shot) if na_rate is not None else None
        # A zero-shot episode still needs a row for each relation to be drawn; its supports are not looked at.
        episodes = EpisodeDataset(own.labels, n_way, max(k_shot, 1), 1, na_rate or 0.0, args.num_episodes, args.seed)
        return evaluate_episodes(own.vectors, episodes, own.anchors, self.trust, threshold, k_shot == 0)

    def _na_threshold(self, n_way: int, k_shot: int) -> float:
        others = self.others
        if others is None:
            raise TkreError("na_rates need --calibrate: sentences of other relations to set the threshold on")
        try:
            return calibrate_na(
                others.vectors, others.labels, n_way, k_shot, others.anchors, self.trust, seed=self.args.seed
            )
        except TkreError as error:
            raise TkreError(
                f"{self.args.calibrate}, without the relations that are trained on or evaluated: {error}"
            ) from error


def load_checkpoint(name: str) -> tuple[TKREModel, TKREProcessor]:
    """A checkpoint's encoder and space, on the accelerator if there is one, and its processor.

    Raises:
        TkreError: There is no such folder or Hub id, or it holds no TKRE model.
    """
    try:
        config, _ = PretrainedConfig.get_config_dict(name)
        if config.get("model_type") != TKREConfig.model_type:
            raise TkreError(f"{name} holds no TKRE model; its model type is {config.get('model_type', 'unknown')}")
        model, processor = TKREModel.from_pretrained(name), TKREProcessor.from_pretrained(name)
    except OSError as error:
        raise TkreError(f"the checkpoint {name} can't be loaded: {str(error).strip().splitlines()[0]}") from error
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), processor  # type: ignore[arg-type]


def evaluate_few_shot(args: FewShotArguments) -> tuple[list[Row], dict[str, EpisodeReport]]:
    """Measures every setting with every checkpoint.

    Returns:
        A row for each setting, the mean over checkpoints; and the first checkpoint's report for each.

    Raises:
        TkreError: A checkpoint, the data or a setting is wrong.
    """
    if args.batch_size < 1:
        raise TkreError(f"batch_size is {args.batch_size}: encode one sentence at least")
    if args.num_episodes < 1:
        raise TkreError(f"num_episodes is {args.num_episodes}: measure one episode at least")
    places = [Path(name).resolve() if Path(name).exists() else name for name in args.model]
    for name, place in zip(args.model, places, strict=True):
        if places.count(place) > 1:
            raise TkreError(f"the checkpoint {name} is given more than once: the interval is over different seeds")
    cases: list[tuple[str, float | None]] = [(setting, None) for setting in args.settings]
    cases += [(setting, rate) for setting in args.settings for rate in args.na_rates]
    names = [setting if rate is None else f"{setting} na{100 * rate:.0f}" for setting, rate in cases]
    for name in names:
        if names.count(name) > 1:
            raise TkreError(
                f"settings and na_rates ask for {name!r} more than once: name each setting once, and rates that "
                "differ in whole percent"
            )
    reports: dict[str, list[EpisodeReport]] = {name: [] for name in names}
    summaries: list[TrainingSummary] = []
    others = None
    if args.calibrate_model is not None:
        if args.calibrate is None:
            raise TkreError("calibrate_model needs --calibrate: sentences of other relations to set the threshold on")
        trained = _trained(args.calibrate_model)
        others = FewShotEvaluator(*load_checkpoint(args.calibrate_model), args, trained).others
    for name in args.model:
        summary = training_summary(name)
        summaries += [summary] if summary is not None else []
        evaluator = FewShotEvaluator(*load_checkpoint(name), args, _trained(name), others)
        for case, (setting, rate) in zip(names, cases, strict=True):
            reports[case].append(evaluator.evaluate(setting, rate))
    knowledge = _knowledge(args, summaries, evaluator.relations)
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
                ci95=None if math.isnan(ci95) else round(ci95, 2),
                n=found[0].episodes,
                seeds=[summary.seed for summary in summaries],
                knowledge=knowledge,
                minutes=round(fmean(summary.minutes for summary in summaries), 1) if summaries else None,
                command=command(),
                versions=versions(),
                machine=machine(),
                source="; ".join(dict.fromkeys(summary.data for summary in summaries)),
            )
        )
    return rows, {name: found[0] for name, found in reports.items()}


def run(args: FewShotArguments) -> int:
    """Measures, prints a table, and writes the rows.

    Raises:
        TkreError: A checkpoint, the data or a setting is wrong.
    """
    with quiet_libraries():
        rows, reports = evaluate_few_shot(args)
    print(f"{args.data}: accuracy in percent, {args.num_episodes:,} episodes in each setting\n\n{table(rows)}")
    if args.confusion:
        for name, report in reports.items():
            print(f"\nMost often confused, {name}:")
            info = _relation_info(args, args.data, report.relations)
            for *pair, share in report.most_confused(args.confusion):
                gold, found = (info[label].name if label in info else label for label in pair)
                print(f"  {gold} taken for {found}: {100 * share:.1f}% of its queries")
    save_rows(args.output, rows)
    return 0


def _knowledge(args: FewShotArguments, summaries: Sequence[TrainingSummary], relations: frozenset[str]) -> str:
    """What was known of the evaluated relations; says so aloud where that was more than the rows can tell."""
    knowledge = "descriptions" if args.descriptions else "none"
    known = [summary for summary in summaries if summary.relations & relations]
    if args.samples or known:
        knowledge = "synthetic"
    if any(summary.knowledge != "synthetic" for summary in known):
        print(
            f"warning: a checkpoint was trained on sentences of {len(relations & known[0].relations)} of the "
            f"{len(relations)} relations evaluated, so this is no accuracy on new relations",
            file=sys.stderr,
        )
    return knowledge


def _trained(checkpoint: str) -> frozenset[str]:
    summary = training_summary(checkpoint)
    return summary.relations if summary is not None else frozenset()


def _of_relations(records: Dataset, relations: Collection[str]) -> Dataset:
    return records.select(np.flatnonzero(np.isin(records["relation"], sorted(relations))))


def _relation_info(args: FewShotArguments, source: str, relations: Sequence[str]) -> dict[str, RelationInfo]:
    info: dict[str, RelationInfo] = {}
    # A named corpus knows its relations, but what the user says of them counts.
    for name in filter(None, [source if source.startswith(("fewrel:", "sample:")) else None, args.relation_info]):
        info |= load_relation_info(name, data_dir=_data_dir(args, name))
    return complete_relation_info(relations, info)


def _data_dir(args: FewShotArguments, source: str) -> str | None:
    return args.data_dir if published_splits(source) else None
