"""The steps of the K-shot chain (``kshot.py``), each of which starts from what the one before left."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import TrainingArguments

from tkre_hf.arguments import parse_settings
from tkre_hf.data import load_relation_info, load_split
from tkre_hf.data.kshot import draw_kshot
from tkre_hf.digests import by_content, digest, file_digest
from tkre_hf.errors import TkreError
from tkre_hf.evaluation import report
from tkre_hf.evaluation.kshot import Predictions, load_classifier, predict
from tkre_hf.evaluation.report import Row, command, machine, versions
from tkre_hf.finetuning import average_classifiers, train_relations
from tkre_hf.hub.facts import FIGURES, weight_digests
from tkre_hf.hub.model_card import write_card
from tkre_hf.hub.publish import push_trained
from tkre_hf.knowledge.cli import generate_training_set
from tkre_hf.knowledge.journal import write_atomically
from tkre_hf.knowledge.merge import write_rows
from tkre_hf.knowledge.settings import Stage0Arguments
from tkre_hf.places import without_folders
from tkre_hf.tkre.training_args import (
    MSLMTrainingArguments,
    RelationTrainingArguments,
    SCLTrainingArguments,
    bf16_supported,
)
from tkre_hf.training import train_mslm, train_scl
from tkre_hf.training_data import (
    TRAINING_DATA,
    MSLMStageArguments,
    RelationStageArguments,
    SCLStageArguments,
    training_summary,
)

if TYPE_CHECKING:
    from tkre_hf.kshot import KShotArguments

logger = logging.getLogger(__name__)

PREDICTIONS = "predictions.jsonl"
# Beside what was published; like all such files it stays at home.
_PUBLISHED = ".published"

_MSLM = (MSLMStageArguments, MSLMTrainingArguments)
_SCL = (SCLStageArguments, SCLTrainingArguments)
_FINETUNING = (RelationStageArguments, RelationTrainingArguments)

# Settings of a training run that change nothing in what comes out of it.
_WITHOUT_EFFECT = frozenset(
    "output_dir run_name project trackio_space_id report_to push_to_hub push_to_hub_token hub_model_id hub_token "
    "hub_strategy hub_private_repo hub_always_push hub_revision "
    "log_level log_level_replica logging_dir logging_first_step logging_steps logging_strategy disable_tqdm "
    "save_steps save_strategy save_total_limit resume_from_checkpoint dataloader_num_workers dataloader_pin_memory "
    "dataloader_persistent_workers dataloader_prefetch_factor "
    "local_rank deepspeed fsdp fsdp_config accelerator_config ddp_backend".split()
)


# Settings of stage 0 that say how hard is asked, and change no answer: a run that stopped at one of them goes on under
# another. So does the server's address, where it isn't what says which model answers.
_HOW_TO_ASK = frozenset("output stream concurrency max_tries retries timeout max_requests max_tokens dry_run".split())


class Chain:
    """The steps, each of which starts from what the one before left."""

    def __init__(self, args: KShotArguments) -> None:
        self.args = args
        self.state = PartialState()
        self.folder = Path(args.output_dir)
        self.train_file = ""
        self.info = [args.relation_info] if args.relation_info else []
        self.checkpoint = args.checkpoint
        self.has_samples = False
        # What a digest is made of: what the next step starts from, in the end, and the rows.
        self.origin = file_digest(Path(args.backbone if args.checkpoint is None else args.checkpoint))
        self.bf16 = bf16_supported()
        self.to_publish: list[tuple[TrainingArguments, Path]] = []
        self.na_label: str | None = args.finetune.get("na_label", args.na_label)
        self.test_rows: Dataset | None = None

    def check(self) -> None:
        """Refuses before the first step what the last ones would: a language model may have been paid by then.

        Raises:
            TkreError: A setting or a test row is wrong, or a file isn't there.
        """
        args = self.args
        if args.averaged < 1:
            raise TkreError(f"averaged is {args.averaged}: fine-tune at least once")
        if args.keep_whole_na and self.na_label is None:
            raise TkreError("keep_whole_na is true, but no na_label says which rows have no relation")
        if args.stage0 is not None:
            self._stage0(args.stage0)
        parsed = {
            name: parse_settings(types, {"output_dir": args.output_dir, **settings}, name)
            for name, types, settings in (
                ("stage1", _MSLM, args.stage1),
                ("stage2", _SCL, args.stage2),
                ("finetune", _FINETUNING, args.finetune),
            )
            if settings is not None
        }
        if args.averaged > 1 and parsed["finetune"][0].adapter is not None:
            raise TkreError(f"averaged is {args.averaged}, but adapters are not averaged: leave out one of the two")
        if args.relation_info is not None:
            load_relation_info(args.relation_info, data_dir=args.data_dir)
        if args.test is not None:
            self.test_rows = load_split(args.test, "test", data_dir=args.data_dir)

    def rows(self) -> None:
        """Loads the labelled rows, and draws K of each relation where that is asked for."""
        args = self.args
        records = load_split(args.train, "train", data_dir=args.data_dir)
        # A training set that `tkre generate merge` left holds them already; samples alone are labelled rows like any.
        sources = set(records["source"])
        self.has_samples = len(sources) > 1 or "edkg" in sources
        if args.k is not None and self.has_samples:
            raise TkreError(
                f"k is {args.k}, but {args.train} holds a language model's explanations or samples beside labelled "
                "rows: draw K labelled rows first, and generate from these"
            )
        if args.k is not None:
            whole = self.na_label if args.keep_whole_na else None
            manifest = draw_kshot(
                records, args.k, args.kshot_seed, keep_whole=whole, allow_fewer=args.allow_fewer, source=args.train
            )
            records = manifest.select(records)
        # Others may come with samples, or be named for fine-tuning alone.
        all_are_here = args.stage0 is None and not {"sources", "add_sources"} & args.finetune.keys()
        if self.na_label is not None and all_are_here and self.na_label not in records["relation"]:
            raise TkreError(f"na_label is {self.na_label!r}, but no training row has this relation")
        folder = self._folder("rows", {"rows": [dict(record) for record in records]})
        self.train_file = str(folder / "train.jsonl")
        if self.state.is_main_process and not Path(self.train_file).exists():
            # By the rows the next run knows that all is there.
            if args.k is not None:
                manifest.write(folder / "manifest.json")
            write_rows(self.train_file, records)
        self.state.wait_for_everyone()

    def knowledge(self, settings: Mapping[str, Any]) -> None:
        """Has a language model explain the rows and write samples; all are one training set then."""
        stage0 = self._stage0(settings)
        settings = {name: value for name, value in asdict(stage0).items() if name not in _HOW_TO_ASK}
        if stage0.model is not None:
            del settings["base_url"]
        # A run goes on under the retriever of the same name alone, so both count.
        settings["retrieved_by"] = stage0.retriever
        named = (
            "train",
            "recorded",
            "relations",
            "exclude",
            "consistency",
            "retrieved_by",
            "prompt",
            "explanation_prompt",
        )
        folder = self._folder("knowledge", by_content(settings, named))
        if self.state.is_main_process:
            # Answers that are there already are not asked for again.
            told, code = generate_training_set(replace(stage0, output=str(folder)))
            logger.info("%s", told)
            if code:
                logger.warning("the knowledge is short of its quota: see %s", folder)
        self.state.wait_for_everyone()
        self.train_file = str(folder / "train.jsonl")
        self.has_samples = True

    def _stage0(self, settings: Mapping[str, Any]) -> Stage0Arguments:
        """What is asked of the language model, and that no sample may repeat a test row."""
        args = self.args
        # The folder is named once the settings are known, which are checked before there are rows.
        given: dict[str, Any] = {"train": self.train_file or "none", "output": "none"}
        given |= {"relations": args.relation_info, "seed": args.seed}
        if self.test_rows is not None:
            given["exclude"] = [self._test_file(str(args.test), self.test_rows)]
        (stage0,) = parse_settings(Stage0Arguments, {**given, **settings}, "stage0")
        assert isinstance(stage0, Stage0Arguments)
        return stage0

    def _test_file(self, test: str, rows: Dataset) -> str:
        """The test rows as a file, which those of a published data set are written to."""
        if Path(test).exists():
            return test
        file = self._folder("test", {"rows": [dict(row) for row in rows]}) / "test.jsonl"
        if self.state.is_main_process and not file.exists():
            write_rows(str(file), rows)
        self.state.wait_for_everyone()
        return str(file)

    def stage1(self, settings: Mapping[str, Any]) -> None:
        """Masked span language modeling on the rows."""
        self._train("stage1", train_mslm, _MSLM, settings)

    def stage2(self, settings: Mapping[str, Any]) -> None:
        """Span-level contrastive learning on the rows."""
        self._train("stage2", train_scl, _SCL, {"relation_info": self.info, **settings})

    def finetune(self, settings: Mapping[str, Any]) -> Path:
        """The classifier."""
        own: dict[str, Any] = {"relation_info": self.info, "na_label": self.args.na_label}
        if self.has_samples:
            # An explanation is about a sentence, and none of those that are to be classified.
            own["record_sources"] = ["gold", "scdg"]
        given = {"seed": self.args.seed, **own, **settings}
        if self.args.averaged == 1:
            return self._train("classifier", train_relations, _FINETUNING, given)
        stage, training = parse_settings(_FINETUNING, {"output_dir": str(self.folder), **given}, "finetune")
        # A mean of weights means something where all set out from the same ones, random ones too.
        shared = {"init_seed": training.seed if stage.init_seed is None else stage.init_seed}
        start, members = (self.checkpoint, self.origin), []
        for i in range(self.args.averaged):
            self.checkpoint, self.origin = start
            # What is published is their mean.
            one = {**given, **(shared if i else {}), "seed": training.seed + i, "push_to_hub": False}
            members.append(self._train("classifier", train_relations, _FINETUNING, one))
        folder = self._folder("average", {"of": [member.name for member in members]})
        if (folder / TRAINING_DATA).exists():
            logger.info("average: found in %s", folder)
        elif self.state.is_main_process:
            average_classifiers(members, folder)
        self.state.wait_for_everyone()
        training.output_dir = str(folder)
        if training.push_to_hub:
            self.to_publish.append((training, folder))
        return folder

    def test(self, classifier: Path) -> Predictions:
        """Labels of the test rows, which are predicted once."""
        assert self.test_rows is not None
        records = self.test_rows
        file = classifier / f"{digest([dict(record) for record in records])[:8]}-{PREDICTIONS}"
        if self.state.is_main_process and not file.exists():
            model, processor = load_classifier(str(classifier))
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self.bf16):
                found = predict(model, processor, [dict(record) for record in records])
            known = set(model.config.label2id or ())
            if unknown := Counter(label for label in found.gold if label not in known):
                logger.warning(
                    "%d of %d test rows have labels that no training row has (%s), and count as missed",
                    unknown.total(),
                    len(found.gold),
                    ", ".join(sorted(unknown)),
                )
            # By the predictions the next run knows that all is there.
            self._report(classifier, found)
            found.write(file)
        self.state.wait_for_everyone()
        return Predictions.read(file, self.na_label)

    def publish(self) -> None:
        """Publishes what the steps' settings ask to publish.

        Raises:
            TkreError: The Hub refuses, or can't be reached; the next run finds all of it trained, and tries again.
        """
        if self.state.is_main_process:
            for training, folder in self.to_publish:
                # What was published and hasn't changed since is the Hub's, and may have been changed there.
                figures, mark = folder / FIGURES, folder / _PUBLISHED
                told = [training.hub_model_id, training.hub_revision, weight_digests(folder)]
                told.append(figures.read_text("utf-8") if figures.exists() else None)
                if not mark.exists() or mark.read_text("utf-8") != digest(told):
                    push_trained(training, folder)
                    write_atomically(mark, digest(told))
        self.state.wait_for_everyone()

    def _report(self, classifier: Path, found: Predictions) -> None:
        """Leaves the figures beside the classifier, and in its card."""
        args, summary = self.args, training_summary(classifier)
        assert summary is not None and args.test is not None
        shots = f"{args.k}-shot" if args.k is not None else "all rows"
        random = (args.finetune or {}).get("classifier_init") == "random"
        has_samples = self.has_samples or bool(summary.stages[-1]["add_sources"])
        knowledge = "synthetic" if has_samples else "none" if random else "descriptions"
        rows = [
            Row(
                benchmark=without_folders(args.test),
                system=classifier.name.partition("-")[0],
                setting=f"{shots} {metric}",
                metric=metric,
                value=round(value, 2),
                n=len(found.gold),
                seeds=[summary.seed + i for i in range(args.averaged)],
                knowledge=knowledge,
                minutes=round(summary.minutes, 2),
                command=command(),
                versions=versions(),
                machine=machine(),
                source=summary.data,
            )
            for metric, value in found.scores().items()
        ]
        report.write_rows(classifier / FIGURES, rows)
        write_card(classifier)

    def _train(self, name: str, train: Any, types: tuple[type, type], settings: Mapping[str, Any]) -> Path:
        """Trains a stage, or finds it trained; the next one starts from it."""
        args = self.args
        given = {"output_dir": str(self.folder), "seed": args.seed, "resume_from_checkpoint": "auto"}
        given["sources"] = [self.train_file]
        given |= {"checkpoint": self.checkpoint} if self.checkpoint is not None else {"backbone": args.backbone}
        if args.data_dir is not None:
            given["data_dir"] = args.data_dir
        stage, training = parse_settings(types, {**given, **settings}, name)
        entries = {key: value for key, value in training.to_dict().items() if key not in _WITHOUT_EFFECT}
        named = ("sources", "add_sources", "relation_info", "validation")
        entries |= by_content({**asdict(stage), "checkpoint": None, "backbone": None}, named)
        # A step's settings may name another start than what the step before left.
        start, own = self.checkpoint or args.backbone, stage.checkpoint or stage.backbone
        entries["origin"] = self.origin if own == start else file_digest(Path(own))
        # Batches are a process's: more of them, larger ones.
        entries["processes"] = training.world_size
        folder = self._folder(name, entries)
        training.output_dir = str(folder)
        # Published at the end, when figures stand in the card, and by the next run where that failed.
        if training.push_to_hub:
            self.to_publish.append((copy(training), folder))
            training.push_to_hub = False
        if name == "classifier" and settings.get("bf16") is not None:
            self.bf16 = bool(training.bf16)
        if not (folder / TRAINING_DATA).exists():
            logger.info("%s: training, in %s", name, folder)
            train(stage, training)
        else:
            logger.info("%s: found in %s", name, folder)
        self.state.wait_for_everyone()
        self.origin = folder.name
        self.checkpoint = str(folder)
        return folder

    def _folder(self, name: str, entries: Mapping[str, Any]) -> Path:
        folder = self.folder / f"{name}-{digest(entries)[:12]}"
        if self.state.is_main_process:
            folder.mkdir(parents=True, exist_ok=True)
        return folder
