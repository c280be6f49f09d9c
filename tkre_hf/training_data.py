"""What a stage trains on: its settings, and the records, relation texts and shares of a batch they stand for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset, concatenate_datasets
from huggingface_hub.errors import HFValidationError
from numpy.typing import NDArray

from tkre_hf.data import (
    SOURCES,
    RelationInfo,
    complete_relation_info,
    load_relation_info,
    load_split,
    published_splits,
)
from tkre_hf.data.reading import read_json
from tkre_hf.errors import TkreError
from tkre_hf.hub_files import is_hub_id, optional_file
from tkre_hf.tkre.markers import MARKERS
from tkre_hf.tkre.training_args import TKRETrainingArguments

logger = logging.getLogger(__name__)

MINILM = "minilm"
TRAINING_DATA = "training_data.json"


@dataclass
class StageArguments:
    """What a stage trains, and on what; how, its training arguments say."""

    sources: list[str] = field(
        default_factory=list,
        metadata={
            "help": "What to train on: files (.json in FewRel's format, .jsonl or .txt with JSON lines), a published "
            "data set (fewrel:wiki, tacred:tacred, semeval:opennre ...), or sample:train, the bundled corpus."
        },
    )
    add_sources: list[str] = field(
        default_factory=list,
        metadata={"help": "Further sources, such as samples that an LLM wrote of the relations a user is after."},
    )
    data_dir: str | None = field(
        default=None,
        metadata={"help": "Folder of a published data set's files; without it FewRel's are downloaded."},
    )
    skip_invalid: bool = field(
        default=False, metadata={"help": "Leave wrong rows out, and list them, where the first one is an error."}
    )
    record_sources: list[str] = field(
        default_factory=list,
        metadata={"help": f"Take records of these sources alone: of {', '.join(SOURCES)}; all by default."},
    )
    exclude_relations: list[str] = field(
        default_factory=list,
        metadata={"help": "Labels of relations whose sentences in sources are kept out; add_sources are taken whole."},
    )
    hold_out: int = field(
        default=0, metadata={"help": "How many of the first source's relations to keep out, to choose settings on."}
    )
    hold_out_seed: int = field(default=0, metadata={"help": "Which ones: another seed, other relations."})
    backbone: str = field(
        default=MINILM,
        metadata={"help": "Encoder to start from: minilm (the embedded one, extra [demo]), a folder or a Hub id."},
    )
    checkpoint: str | None = field(
        default=None, metadata={"help": "TKRE checkpoint to go on from, such as stage 1's, instead of a backbone."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a backbone on the Hub."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run the code that comes with the backbone."})
    marker: str | None = field(
        default=None,
        metadata={"help": f"Entity markers: {', '.join(MARKERS)}. By default entity_marker, or the checkpoint's."},
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Longest sequence in tokens. By default 128, or the checkpoint's."}
    )


@dataclass
class MSLMStageArguments(StageArguments):
    """What stage 1 trains, and on what."""


@dataclass
class SCLStageArguments(StageArguments):
    """What stage 2 trains, and on what. A setting of the model that isn't given is the checkpoint's or the default."""

    shares: list[float] = field(
        default_factory=list,
        metadata={
            "help": "Each source's share of a batch's relations, in proportion; by default that of all relations."
        },
    )
    add_share: float | None = field(
        default=None, metadata={"help": "The share of all add_sources together, between 0 and 1."}
    )
    relation_info: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Names and descriptions of relations: YAML, pid2name.json or JSON lines; those of fewrel:... and "
            "sample:... are known."
        },
    )
    learned_anchors: bool = field(
        default=False, metadata={"help": "A learned vector as each relation's anchor, not its name and description."}
    )
    projection_dim: int | None = field(default=None, metadata={"help": "Size of the space of relations."})
    tau: float | None = field(default=None, metadata={"help": "Temperature of the contrastive loss."})
    lambda_mslm: float | None = field(default=None, metadata={"help": "Weight of masked span language modeling."})
    lambda_scl: float | None = field(default=None, metadata={"help": "Weight of the contrastive loss."})
    anchor_weight: float | None = field(
        default=None, metadata={"help": "How many supports a relation's anchor counts for when the model is used."}
    )
    anchor_doubt: float | None = field(
        default=None,
        metadata={"help": "How fast it counts for less where anchors misjudge the supports."},
    )
    span_weight: float | None = field(
        default=None, metadata={"help": "Weight of cue and entity spans within the contrastive loss."}
    )


@dataclass
class RelationStageArguments(StageArguments):
    """What K-shot fine-tuning trains, and on what."""

    na_label: str | None = field(
        default=None,
        metadata={"help": "The label that says that there is no relation; by default every label is one."},
    )
    relation_info: list[str] = field(
        default_factory=list,
        metadata={"help": "Names and descriptions of relations: YAML, pid2name.json or JSON lines."},
    )
    classifier_init: Literal["anchors", "supports", "random"] = field(
        default="anchors",
        metadata={
            "help": "What the classifier starts from: the relations' names and descriptions as stage 2 sees them "
            "(anchors), their training rows as well (supports), or random numbers."
        },
    )
    init_seed: int | None = field(
        default=None, metadata={"help": "Seed of the weights that start at random; the run's own by default."}
    )
    moved_marks: int = field(
        default=0,
        metadata={
            "help": "Rows of na_label made of the others by moving one entity's mark to another noun: at most so many."
        },
    )
    validation: str | None = field(
        default=None,
        metadata={
            "help": "Source of labelled rows that the best epoch is chosen on, of which as many are drawn for each "
            "relation as there are training rows."
        },
    )
    validation_k: int | None = field(
        default=None, metadata={"help": "How many are drawn, where that's another number."}
    )
    validation_seed: int = field(default=0, metadata={"help": "Which ones: another seed, other rows."})
    adapter: Literal["lora", "ia3"] | None = field(
        default=None,
        metadata={"help": "Train an adapter on the encoder (extra [peft]), where all is trained otherwise."},
    )
    adapter_rank: int = field(default=8, metadata={"help": "LoRA's rank."})
    adapter_alpha: int = field(default=16, metadata={"help": "LoRA's scale, over its rank."})
    adapter_dropout: float = field(default=0.1, metadata={"help": "LoRA's dropout."})


@dataclass(frozen=True)
class TrainingRecords:
    """What a stage trains on.

    Args:
        records: All sources' records, one after the other.
        groups: Each record's source, ``(records,)``; all add_sources are one.
        held_out: Relations kept out, sorted.
    """

    records: Dataset
    groups: NDArray[np.int64]
    held_out: list[str]


@dataclass(frozen=True)
class TrainingSummary:
    """What a checkpoint was trained on, stage by stage, as it stands beside it in ``training_data.json``.

    Args:
        stages: For each stage its model class, backbone, sources, seed, minutes, counts, settings, and the labels of
            the relations trained on and held out.
    """

    stages: list[dict[str, Any]]

    @property
    def seed(self) -> int:
        """The last stage's seed."""
        return int(self.stages[-1]["seed"])

    @property
    def minutes(self) -> float:
        """Minutes of all stages together; of one that was resumed, those since."""
        return sum(stage["minutes"] for stage in self.stages)

    @property
    def data(self) -> str:
        """The sources of each stage."""
        return "; ".join(
            f"{stage['stage']}: {', '.join([*stage['sources'], *stage['add_sources']])}" for stage in self.stages
        )

    @property
    def relations(self) -> frozenset[str]:
        """Labels of all relations that any stage was trained on."""
        return frozenset(label for stage in self.stages for label in stage["trained_relations"])

    @property
    def knowledge(self) -> str:
        """``synthetic`` where samples of the relations that a user is after were trained on, else ``descriptions``."""
        return "synthetic" if any(stage["add_sources"] for stage in self.stages) else "descriptions"

    def write(self, folder: Path) -> None:
        """Writes it beside a checkpoint."""
        (folder / TRAINING_DATA).write_text(json.dumps(self.stages, indent=1, ensure_ascii=False) + "\n", "utf-8")


def training_summary(model: str | Path) -> TrainingSummary | None:
    """Reads what a checkpoint was trained on; ``None`` where nothing says so.

    Args:
        model: Folder or Hub id.

    Raises:
        TkreError: The file tells something else.
    """
    file = Path(model, TRAINING_DATA)
    if is_hub_id(model):
        try:
            found = optional_file(str(model), TRAINING_DATA)
        except (OSError, HFValidationError):
            # Whoever loads it is told what is wrong with the name, or on the way to the Hub.
            found = None
        file = Path(found) if found is not None else file
    if not file.is_file():
        return None
    stages = read_json(file)
    if not isinstance(stages, list) or not all(map(_is_stage, stages)):
        raise TkreError(f"{file} doesn't tell how a model was trained, stage by stage: move it away")
    return TrainingSummary(stages)


def _is_stage(entry: Any) -> bool:
    """Whether it tells of a stage; of its fields those that a reader counts on."""
    if not isinstance(entry, dict) or not isinstance(entry.get("stage"), str):
        return False
    lists = [entry.get("sources"), entry.get("add_sources"), entry.get("trained_relations", [])]
    numbers = [entry.get(name) for name in ("seed", "minutes", "sentences", "relations", "nodes", "edges")]
    return (
        all(isinstance(value, list) and all(isinstance(name, str) for name in value) for value in lists)
        and all(value is None or isinstance(value, int | float) for value in numbers)
        and isinstance(entry.get("settings") or {}, dict)
        and isinstance(entry.get("held_out_relations") or [], list)
    )


def load_training_records(args: StageArguments, training_args: TKRETrainingArguments | None = None) -> TrainingRecords:
    """Loads the sources, without the relations to be kept out.

    Args:
        args: Names the sources and the relations to keep out.
        training_args: Where there are several processes, lets the first one build the cache for all.

    Raises:
        TkreError: There is no source, a row is wrong, or a relation to keep out doesn't occur.
    """
    if not args.sources:
        raise TkreError("no sources: say what to train on, such as --sources sample:train")
    names = [*args.sources, *args.add_sources]
    parts = []
    for name in names:
        with training_args.main_process_first() if training_args is not None else nullcontext():
            parts.append(load_split(name, "train", data_dir=args.data_dir, skip_invalid=args.skip_invalid))
    records = concatenate_datasets(parts)
    group = [min(i, len(args.sources)) for i in range(len(names))]
    groups = np.repeat(group, [len(part) for part in parts])
    labels = list(records["relation"])
    unknown = sorted(set(args.exclude_relations) - set(labels))
    if unknown:
        close = get_close_matches(unknown[0], sorted(set(labels)), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TkreError(f"exclude_relations names {unknown[0]!r}, which no record of the sources has{hint}")
    held_out = set(args.exclude_relations) | set(
        hold_out_relations(set(parts[0]["relation"]) - set(args.exclude_relations), args.hold_out, args.hold_out_seed)
    )
    # Samples of a relation whose own sentences are kept out are how settings for samples are chosen.
    keeps = (groups == len(args.sources)) | np.array([label not in held_out for label in labels])
    if args.record_sources:
        if unknown := sorted(set(args.record_sources).difference(SOURCES)):
            raise TkreError(f"record_sources names {unknown[0]!r}; a record's source is one of {', '.join(SOURCES)}")
        keeps &= np.isin(records["source"], args.record_sources)
    kept = np.flatnonzero(keeps)
    if not len(kept):
        raise TkreError(f"nothing to train on: {', '.join(names)} hold no record that isn't kept out")
    return TrainingRecords(records.select(kept), groups[kept], sorted(held_out))


def hold_out_relations(relations: Iterable[str], number: int, seed: int = 0) -> list[str]:
    """Draws the relations that are kept out of training, to choose settings on.

    Args:
        relations: Labels, in any order.
        number: How many to keep out.
        seed: Of the draw.

    Returns:
        The labels kept out, sorted.

    Raises:
        TkreError: There aren't as many.
    """
    labels = sorted(set(relations))
    if not 0 <= number < max(len(labels), 1):
        raise TkreError(f"hold_out is {number}, but there are {len(labels)} relations, and one at least must stay")
    return sorted(labels[i] for i in np.random.default_rng(seed).choice(len(labels), number, replace=False))


def relation_texts(
    args: SCLStageArguments | RelationStageArguments, relations: Sequence[str], warn: bool = True
) -> dict[str, RelationInfo]:
    """Names and descriptions of relations, in their order: of the files given, then of the named sources.

    Args:
        args: Names files and sources.
        relations: The labels.
        warn: Say how many relations are known by their label alone.

    Raises:
        TkreError: A file is missing or an entry is wrong.
    """
    info: dict[str, RelationInfo] = {}
    named = [name for name in [*args.sources, *args.add_sources] if name.startswith(("fewrel:", "sample:"))]
    for name in dict.fromkeys([*args.relation_info, *named]):
        found = load_relation_info(name, data_dir=args.data_dir if published_splits(name) else None)
        info = {**found, **info}
    bare = [label for label in relations if label not in info]
    if bare and warn:
        logger.warning(
            "%d of %d relations have neither name nor description, so their label serves (%s ...); "
            "relation_info takes a file of them",
            len(bare),
            len(relations),
            ", ".join(bare[:3]),
        )
    return complete_relation_info(relations, info)


def batch_shares(
    args: SCLStageArguments, data: TrainingRecords
) -> tuple[NDArray[np.int64] | None, list[float] | None]:
    """Which corpus each record belongs to, and the share of a batch's relations that each corpus gets.

    Returns:
        ``(records,)`` and one number for each corpus; or twice ``None``, where no shares are asked for.

    Raises:
        TkreError: The shares don't fit the sources, or a source has no relation of its own to fill its share.
    """
    if not args.shares and args.add_share is None:
        return None, None
    # A relation that several sources have belongs to the first of them.
    relations, first = np.unique(np.array(data.records["relation"]), return_index=True)
    counts = np.bincount(data.groups[first], minlength=len(args.sources) + bool(args.add_sources))
    shares = np.array(args.shares or counts[: len(args.sources)], dtype=float)
    if len(shares) != len(args.sources) or not (shares > 0).all():
        raise TkreError(f"shares must be {len(args.sources)} numbers above 0, one for each of sources; found {shares}")
    if (args.add_share is None) != (not args.add_sources):
        raise TkreError("with shares, add_share says how much of a batch is of add_sources: give both or neither")
    shares = shares / shares.sum()
    if args.add_share is not None:
        if not 0 < args.add_share < 1:
            raise TkreError(f"add_share must lie between 0 and 1, found {args.add_share}")
        shares = np.append(shares * (1 - args.add_share), args.add_share)
    if not counts.all():
        name = [*args.sources, "add_sources"][int(np.flatnonzero(counts == 0)[0])]
        raise TkreError(f"{name} has a share, but no relation left that isn't kept out or an earlier source's")
    return data.groups, shares.tolist()
